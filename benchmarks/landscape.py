"""A contour of several runs in large batches, against a loop that evaluates point by point.

    python benchmarks/landscape.py RUN RUN RUN RUN [--grid 51] [--rounds 3]

Both evaluate the same points of the same planes, in turn in one process. Printed: the median
seconds of each, their ratio, and the largest difference of an energy.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.landscapes.contour import ContourResult
from jeatcli.landscapes.landscape import energy_landscape


def in_batches(models: list[Model], grid: int) -> ContourResult:
    """Take the energies as `jeat landscape` does."""
    found = energy_landscape(models, grid=grid, device=str(models[0].device)).result
    assert isinstance(found, ContourResult)
    return found


@torch.no_grad()
def point_by_point(models: list[Model], found: ContourResult) -> list[np.ndarray]:
    """Take the same energies one forward pass a point."""
    energies = []
    for model, panel in zip(models, found.panels, strict=True):
        plane, y = panel.plane, model.meta.classes.index(panel.label)
        rows = [
            [
                -model.classifier(plane.points(torch.tensor([[a, b]]).to(plane.x)))[0, y]
                for a in plane.axis.tolist()
            ]
            for b in plane.axis.tolist()
        ]
        energies.append(torch.tensor(rows).double().numpy())
    return energies


def main() -> None:
    """Time both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--grid", type=int, default=51)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    models = [load(run, device=chosen.device) for run in chosen.runs]
    ours, theirs = [], []
    for _ in range(chosen.rounds):
        start = time.perf_counter()
        found = in_batches(models, chosen.grid)
        middle = time.perf_counter()
        alone = point_by_point(models, found)
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    pairs = zip(found.panels, alone, strict=True)
    apart = max(float(np.abs(panel.energies - each).max()) for panel, each in pairs)
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"{len(models)} runs, {chosen.grid} x {chosen.grid} points, {chosen.rounds} rounds")
    print(f"in batches      {mine:8.2f} s")
    print(f"point by point  {other:8.2f} s")
    print(f"ratio           {other / mine:8.1f}")
    print(f"largest difference of an energy {apart:.2g}")


if __name__ == "__main__":
    main()
