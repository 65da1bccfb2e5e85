"""Each way of computing a network against the one that a measurement chooses.

    python benchmarks/dispatch.py --arch cifar-resnet-20 wrn-16-4 --precision fp32 bf16

Passes forward and back to a batch of images, with frozen weights in evaluation mode, as attacks and
chains make them. `plain` is the network as it is. The ways take their passes in turn; images/s are
of the median. The clock is that of the processor in this thread, as in the measurement itself, and
freed memory is kept as by a command. The choice is made first, with the work of `--passes` images
at hand, in the user's cache. Only noise tells apart ways that come to the same convolutions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import torch
from glibc_limits import set_for
from torch import Tensor

from jeatcli.acceleration.dispatch import choose
from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import KERNELS, Way, Wish, Work
from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier, frozen
from jeatcli.core.models.layers import Shape
from jeatcli.runtime import devices

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def network(arch: str, norm_layer: str, activation: str) -> Classifier:
    """Return a network for CIFAR-10 with random weights."""
    torch.manual_seed(0)
    net = build(arch, Shape((3, 32, 32), 10, norm_layer, activation))
    return Classifier(net, (0.5,) * 3, (0.25,) * 3).eval()


def seconds(classifier: Classifier, images: Tensor) -> float:
    """Return how long a pass forward and back to the images takes."""
    x = images.clone().requires_grad_(True)
    began = time.thread_time()
    torch.autograd.grad(classifier(x).logsumexp(1).sum(), x)
    return time.thread_time() - began


def compare(arch: str, precision: str, given: argparse.Namespace) -> None:
    """Print a row: the images/s of each way, and what was chosen."""
    dtype = PRECISIONS[precision]
    classifier = network(arch, given.norm_layer, given.activation)
    images = torch.rand(given.batch_size, 3, 32, 32)
    work = Work((3, 32, 32), given.batch_size, given.passes)
    wish = Wish(compiled=None if given.compile else False)
    chosen = choose(classifier, dtype, work, wish)
    ways = [Way(kernel) for kernel in KERNELS]
    if given.compile:
        ways += [Way(kernel, compiled=True) for kernel in ("library", "winograd")]
    with frozen(classifier):
        contenders = {str(way): accelerate(classifier, dtype, way) for way in ways}
        plain = network(arch, given.norm_layer, given.activation).requires_grad_(False)
        plain.autocast = dtype
        contenders = {"plain": plain, **contenders}
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(given.rounds + 1):
            for name, contender in contenders.items():
                taken = seconds(contender, images)
                if turn:  # the first warms up
                    times[name].append(taken)
    rates = {name: len(images) / statistics.median(each) for name, each in times.items()}
    ours, best = rates.get(str(chosen), 0.0), max(rates.values())
    told = [f"{rate:,.0f}" for rate in rates.values()]
    against = f"{ours / best - 1:+.0%} | {ours / rates['plain']:.2f}"
    print(f"| {arch} | {precision} | {' | '.join(told)} | {chosen} | {against} |", flush=True)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=["small", "cifar-resnet-20", "wrn-16-4"])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--norm-layer", default="batch")
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--passes", type=float, default=1e6, help="the work at hand, in images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="compiled graphs too: minutes each")
    given = parser.parse_args()
    set_for("jeat")
    about = f"{devices.processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{about}, batches of {given.batch_size}, {given.norm_layer}, {given.activation}\n")
    compiled = ["library, compiled", "winograd, compiled"] if given.compile else []
    names = ["network", "precision", "plain", *KERNELS, *compiled]
    print(f"| {' | '.join(names)} | chosen | of the best | of plain |")
    print("| " + " | ".join(["---"] * (len(names) + 3)) + " |")
    for arch, precision in itertools.product(given.arch, given.precision):
        compare(arch, precision, given)


if __name__ == "__main__":
    main()
