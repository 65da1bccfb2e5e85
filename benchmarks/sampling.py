"""Images per second and peak memory of `sample` against a plain loop as in the JEM code.

    python benchmarks/sampling.py --arch wrn-16-4 -n 10000 --steps 20 --batch-size 64 --rounds 5

Both draw CIFAR-10-sized images by SGLD on E(x, y) from uniform noise, with the same step, noise and
clipping, by the same untrained network; `sample` in bf16 where the processor has it (`--precision`
for another), in the way that is measured to be the fastest. The plain loop is written as published
codes are (Grathwohl et al. 2020): default memory layout, weights that want gradients,
`retain_graph=True`. They draw a batch each in turn until each has drawn `-n` images, or `--rounds`
batches of them, so that a busy machine slows both; told are the time of all, the median of a batch,
and the most memory it takes. Before its turn, `sample` has the limits of glibc's memory that a
command sets, the plain loop those that glibc comes to by itself.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from glibc_limits import set_for
from peak_memory import peak_memory
from published_loops import plain
from told import Told
from torch import Tensor, nn
from train_step import seconds

from jeatcli.acceleration.dispatch import choose
from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import Wish, Work
from jeatcli.checkpoints.header import Meta
from jeatcli.checkpoints.model import Model, network
from jeatcli.data.facts import DATASETS
from jeatcli.data.pictures import to_uint8
from jeatcli.runtime import devices
from jeatcli.sampling import initializers
from jeatcli.sampling.plan import SamplingPlan
from jeatcli.sampling.samplers import Sgld


def untrained(arch: str, norm_layer: str, device: torch.device) -> Model:
    """Return a network of random weights for CIFAR-10."""
    facts = DATASETS["cifar10"]
    meta = Meta(
        arch=arch,
        norm_layer=norm_layer,
        activation="relu",
        dataset="cifar10",
        classes=tuple("0123456789"),
        shape=facts.shape,
        mean=facts.mean,
        std=facts.std,
        method="jem",
        options={},
        epoch=0,
        epochs=0,
        finished=True,
        seed=0,
    )
    torch.manual_seed(0)
    classifier = network(meta).eval().requires_grad_(False).to(device)
    return Model(classifier, meta, None, Path("untrained"))


def plain_chain(model: nn.Module, y: Tensor, sampler: Sgld, device: torch.device) -> Tensor:
    """Draw one batch as the JEM code does."""
    x = torch.rand(len(y), 3, 32, 32).to(device).requires_grad_(True)
    for _ in range(sampler.steps):
        height = model(x).gather(1, y[:, None]).sum()
        rise = torch.autograd.grad(height, [x], retain_graph=True)[0]
        rise = rise.clamp(-sampler.clip, sampler.clip)
        x.data += sampler.step_size * rise + sampler.noise * torch.randn_like(x)
        x.data.clamp_(0, 1)
    return x.detach().cpu()


def contenders(given: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return a function a contender that draws a batch."""
    model = untrained(given.arch, given.norm_layer, device)
    sampler = Sgld(steps=given.steps, step_size=0.25, noise=0.005, clip=1.0)
    # Two batches more than are timed: one warms up, one is measured for its memory.
    labels = torch.arange(given.num + 3 * given.batch_size) % 10
    dtype = devices.autocast_type(given.precision, device)
    work = Work(model.meta.shape, given.batch_size, len(labels) * given.steps)
    way = choose(model.classifier, dtype, work, Wish(compiled=given.compile), Told())
    fast = accelerate(model.classifier, dtype, way)
    start = initializers.resolve("uniform", model)
    batches = ours(
        SamplingPlan(
            model, sampler, "joint", start, labels, {}, batch_size=given.batch_size, twin=fast
        )
    )
    loop = plain(model.classifier).eval()
    classes = labels[: given.batch_size].to(device)
    return {
        "sample": partial(next, batches),
        "plain loop": partial(plain_chain, loop, classes, sampler, device),
    }


def ours(plan: SamplingPlan) -> Iterator[object]:
    """Draw batch by batch, rounded as `jeat sample --format png` rounds them."""
    for _, images in plan.batches():
        yield to_uint8(images)


def main() -> None:
    """Time both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="resnet-18")
    parser.add_argument("--norm-layer", default="batch")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("-n", "--num", type=int, default=10_000, help="images by each")
    parser.add_argument("--rounds", type=int, help="batches of them that are drawn in fact")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    device = devices.pick(given.device)
    steps = contenders(given, device)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # warm up: the first batch also allocates what stays
    memory = {name: peak_memory(step, device) for name, step in steps.items()}
    for _ in range(given.rounds or given.num // given.batch_size):
        for name, step in steps.items():
            set_for(name)
            times[name].append(seconds(step))
    print(
        f"{given.arch}, {given.norm_layer}, {given.steps} steps, batch {given.batch_size}, {device}"
    )
    print("| | images | s | images/s | s/batch, median | peak MiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, each in times.items():
        images, total = given.batch_size * len(each), sum(each)
        median = statistics.median(each)
        print(
            f"| {name} | {images:,} | {total:.1f} | {images / total:.2f} | {median:.2f} "
            f"| {memory[name]:.0f} |"
        )
    print(f"times as fast: {sum(times['plain loop']) / sum(times['sample']):.2f}")


if __name__ == "__main__":
    main()
