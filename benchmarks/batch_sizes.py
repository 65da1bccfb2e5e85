"""Images per second by batch, on a CPU: why the default batch is no larger there.

    python benchmarks/batch_sizes.py --arch small wrn-16-2 wrn-16-4 cifar-resnet-20

For each network, of random weights, and for each batch: forward and backward passes with frozen
weights on the copy that attacks and chains run on, in the precision that is chosen by itself or by
`--precision`, and forward passes of the plain network in float32, as scores and landscapes take
them. The batches take turns, `--rounds` times, and the clock is the processor's; told is the best
round of each, and the ratio of the default batch to the largest. All that once while glibc returns
freed memory as it does by itself, and once while it is kept, as in a `jeat` command.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial

import torch
from glibc_limits import set_for
from sampling import untrained
from torch import nn

from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import KERNELS, Way
from jeatcli.runtime import devices


def passes(net: nn.Module, x: torch.Tensor) -> None:
    """Take the gradient by the images."""
    x = x.clone().requires_grad_(True)
    torch.autograd.grad(net(x).logsumexp(1).sum(), x)


def forward(net: nn.Module, x: torch.Tensor) -> None:
    """Compute the logits."""
    with torch.inference_mode():
        net(x)


def rates(run: Callable[[torch.Tensor], None], batches: list[int], rounds: int) -> list[float]:
    """Return the most images per second of processor time for each batch."""
    best, num = [0.0] * len(batches), max(batches)
    for _ in range(rounds + 1):  # the first one warms up, too
        for place, batch in enumerate(batches):
            x = torch.rand(batch, 3, 32, 32)
            began = time.process_time()
            for _ in range(num // batch):
                run(x)
            best[place] = max(best[place], num / (time.process_time() - began))
    return best


def main() -> None:
    """Time all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", default=["small", "wrn-16-2", "wrn-16-4"])
    parser.add_argument("--norm-layer", default="batch")
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--kernel", default="winograd-32", choices=KERNELS)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    device = torch.device("cpu")
    dtype = devices.autocast_type(given.precision, device)
    usual = devices.images_at_once((32, 32), device)
    heads = " | ".join(f"{batch}" for batch in given.batches)
    print(f"| network | passes | memory | {heads} | {usual} : {given.batches[-1]} |")
    print("| --- | --- | --- |" + " ---: |" * (len(given.batches) + 1))
    for arch in given.arch:
        plain = untrained(arch, given.norm_layer, device).classifier
        fast = accelerate(plain, dtype, Way(given.kernel))
        kinds = {
            f"forward and backward, {devices.precision_name(dtype)}": partial(passes, fast),
            "forward, fp32": partial(forward, plain),
        }
        for (name, run), memory in itertools.product(kinds.items(), ("returned", "kept")):
            set_for("jeat" if memory == "kept" else "glibc")
            found = rates(run, given.batches, given.rounds)
            cells = " | ".join(f"{rate:,.0f}" for rate in found)
            ratio = found[given.batches.index(usual)] / found[-1]
            print(f"| {arch} | {name} | {memory} | {cells} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
