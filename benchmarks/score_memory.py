"""The peak memory of scoring 50,000 images in a classifier's features, beside the features alone.

    python benchmarks/score_memory.py [-n 50000]

On random images of CIFAR-10's size and the features of an untrained small network. Printed are the
peak of the process while it computes the features, and while it computes each score from them, in
MiB. Linux alone.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from jeatcli import wrap
from jeatcli.core.models import build
from jeatcli.core.models.layers import Shape
from jeatcli.scoring import fidelity
from jeatcli.scoring.features import Features, extract
from jeatcli.scoring.settings import METRICS


def peak(step: Callable[[], object]) -> float:
    """Return the height of the process's memory during a step, in MiB."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    step()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


def main() -> None:
    """Print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=50_000)
    num = parser.parse_args().n
    torch.manual_seed(0)
    model = wrap(build("small", Shape((3, 32, 32), 10)), dataset="cifar10", mean=0, std=1)
    images = [torch.randint(256, (num, 3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    sets: list[Features] = []
    alone = peak(lambda: sets.extend(extract(x, model, 512) for x in images))
    ours, theirs = sets
    print(f"{'features':18} {alone:6.0f} MiB", flush=True)

    def scores() -> None:
        fidelity.compute(ours, theirs, fidelity.Numbers.of(ours, theirs, 10, 100, 1000))

    parts: dict[str, Callable[[], object]] = {
        name: partial(METRICS.load(name), ours, theirs) for name in METRICS
    }
    for name, part in {**parts, "the five scores": scores}.items():
        began = time.process_time()
        most = peak(part)
        seconds = time.process_time() - began
        print(f"{name:18} {most:6.0f} MiB  {most / alone:.2f}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
