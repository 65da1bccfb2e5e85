"""Each way of computing a network against the one that a measurement chooses.

    python benchmarks/dispatch.py --arch cifar-resnet-20 wrn-16-4 --precision fp32 bf16

`pass`: forward and back to a batch of images, with frozen weights in evaluation mode, as attacks
and chains make them. `update`: forward and back to the weights, in train mode. `plain` is the
network as it is. The ways take their turns; images/s are of the median. The clock is that of the
processor in this thread, as in the measurement itself, and freed memory is kept as by a command.
The choice is made first, with the work of `--images` at hand, in the user's cache. Only noise tells
apart ways that come to the same convolutions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from glibc_limits import set_for
from torch import Tensor

from jeatcli.acceleration.dispatch import choose
from jeatcli.acceleration.twins import accelerate, learn_by
from jeatcli.acceleration.ways import KERNELS, Way, Wish, Work
from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.models.layers import Shape
from jeatcli.runtime import devices

Step = Callable[[], None]
Steps = dict[str, Step]
WHATS = ("pass", "update")
Settings = argparse.Namespace
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def network(arch: str, norm_layer: str, activation: str) -> Classifier:
    """Return a network for CIFAR-10 with random weights."""
    torch.manual_seed(0)
    net = build(arch, Shape((3, 32, 32), 10, norm_layer, activation))
    return Classifier(net, (0.5,) * 3, (0.25,) * 3).eval()


def prepare_pass(classifier: Classifier, images: Tensor) -> Step:
    """Return what passes forward and back to the images."""

    def step() -> None:
        x = images.clone().requires_grad_(True)
        torch.autograd.grad(classifier(x).logsumexp(1).sum(), x)

    return step


def prepare_update(classifier: Classifier, images: Tensor) -> Step:
    """Return what passes forward and back to the weights."""

    def step() -> None:
        classifier.zero_grad()
        classifier(images).logsumexp(1).sum().backward()

    return step


def contenders(what: str, ways: list[Way], dtype: torch.dtype | None, given: Settings) -> Steps:
    """Return a step of the network as it is, and one in each way."""
    shape = (3, 32, 32)
    images, found = torch.rand(given.batch_size, *shape), {}
    for way in (None, *ways):
        classifier = network(given.name, given.norm_layer, given.activation)
        classifier.autocast = dtype
        if what == "update":
            classifier.train()
            if way is not None:
                learn_by(classifier, way)
            step = prepare_update(classifier, images)
        else:
            classifier.requires_grad_(False)
            fast = classifier if way is None else accelerate(classifier, dtype, way)
            step = prepare_pass(fast, images)
        found["plain" if way is None else str(way)] = step
    return found


def compare(precision: str, what: str, given: Settings) -> None:
    """Print a row: the images/s of each way, and what was chosen."""
    dtype = PRECISIONS[precision]
    passes, updates = (given.images, 0.0) if what == "pass" else (0.0, given.images)
    work = Work((3, 32, 32), given.batch_size, passes, updates)
    wish = Wish(compiled=None if given.compile else False)
    classifier = network(given.name, given.norm_layer, given.activation)
    chosen = choose(classifier, dtype, work, wish)
    ways = [Way(kernel) for kernel in KERNELS]
    if given.compile:
        ways += [Way(kernel, compiled=True) for kernel in ("library", "winograd")]
    steps = contenders(what, ways, dtype, given)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(given.rounds + 1):
        for name, step in steps.items():
            began = time.thread_time()
            step()
            if turn:  # the first warms up
                times[name].append(time.thread_time() - began)
    rates = {name: given.batch_size / statistics.median(each) for name, each in times.items()}
    ours, best = rates.get(str(chosen), 0.0), max(rates.values())
    told = [f"{rate:,.0f}" for rate in rates.values()]
    against = f"{ours / best - 1:+.0%} | {ours / rates['plain']:.2f}"
    head = f"{given.name} | {precision} | {what}"
    print(f"| {head} | {' | '.join(told)} | {chosen} | {against} |", flush=True)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=["small", "cifar-resnet-20", "wrn-16-4"])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--norm-layer", default="batch")
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--what", nargs="+", choices=WHATS, default=WHATS[:1])
    parser.add_argument("--images", type=float, default=1e6, help="the work at hand")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="compiled graphs too: minutes each")
    given = parser.parse_args()
    set_for("jeat")
    about = f"{devices.processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{about}, batches of {given.batch_size}, {given.norm_layer}, {given.activation}\n")
    compiled = ["library, compiled", "winograd, compiled"] if given.compile else []
    names = ["network", "precision", "what", "plain", *KERNELS, *compiled]
    print(f"| {' | '.join(names)} | chosen | of the best | of plain |")
    print("| " + " | ".join(["---"] * (len(names) + 3)) + " |")
    for name, precision, what in itertools.product(given.arch, given.precision, given.what):
        compare(precision, what, Settings(**vars(given), name=name))


if __name__ == "__main__":
    main()
