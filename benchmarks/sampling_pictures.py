"""Samples side by side: a row a run, a column a way of drawing, all with the same random numbers.

    python benchmarks/sampling_pictures.py RUN [RUN ...] --ways sgld:uniform pgd:gaussian:ce -o FILE

A way is SAMPLER:START[:OBJECTIVE], E(x,y) where none is said. In each panel a column is a class.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.data import pictures
from jeatcli.plots import figure
from jeatcli.sampling.sample import sample


def panel(model: Model, way: str, rows: int, steps: int) -> np.ndarray:
    """Draw one panel, pixels (height, width) or (height, width, 3)."""
    sampler, start, objective = (*way.split(":"), "joint")[:3]
    settings: dict[str, Any] = {
        "sampler": sampler,
        "init": start,
        "objective": objective,
        "steps": steps,
    }
    drawn = sample(model, num=10 * rows, **settings)
    return np.asarray(pictures.grid(drawn.images, 10, scale=32 // drawn.images.shape[-1]))


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--ways", nargs="+", required=True)
    parser.add_argument("--rows", type=int, default=3, help="images of each class")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    models = [load(run) for run in given.runs]
    width, height = 3.42, 0.34 * given.rows + 0.3
    size = (width * len(given.ways) + 0.3, height * len(models) + 0.1)
    with figure.styled():
        drawing = Figure(figsize=size, dpi=110, layout="constrained")
        axes = drawing.subplots(len(models), len(given.ways), squeeze=False)
        for row, model in zip(axes, models, strict=True):
            for axis, way in zip(row, given.ways, strict=True):
                pixels = panel(model, way, given.rows, given.steps)
                axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axis.set(xticks=[], yticks=[], title=f"{model.meta.method}, {way}")
                axis.spines[:].set_visible(False)
        figure.save(drawing, given.out, "Samples", " ".join(given.runs))


if __name__ == "__main__":
    main()
