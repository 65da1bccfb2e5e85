"""The figures of `results.py`: robustness against samples, and the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import LogLocator
from matplotlib.transforms import Bbox

from jeatcli import sample
from jeatcli.data import pictures
from jeatcli.plots import figure

TITLES = {"alike": "All drawn alike", "own": "Drawn as each method does"}


def tradeoff(found: Mapping[str, list[dict[str, Any]]], dataset: str, out: Path) -> None:
    """Draw robust accuracy against the distance of samples, both ways of drawing."""
    with figure.styled():
        drawing = figure.new_figure(9, 4.5)
        for axis, way in zip(drawing.subplots(1, 2, sharey=True), ("alike", "own"), strict=True):
            means = {
                row: np.mean([(one[f"fd_{way}"], one["pgd"]) for one in ones], 0)
                for row, ones in found.items()
                if all(f"fd_{way}" in one for one in ones)
            }
            for row, point in means.items():
                axis.plot(*point, "o", color="#D55E00" if row == "jeat" else "0.25", markersize=4)
            figure.tidy(axis)
            axis.set(xscale="log", xlabel="Fréchet distance", title=TITLES[way])
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
            axis.margins(x=0.22)
            label(axis, means)
        drawing.axes[0].set(ylabel=f"accuracy under PGD-20, {dataset}")
        figure.save(drawing, out / "tradeoff.png", "Robustness and samples", "benchmarks/results")


def label(axis: Axes, means: Mapping[str, Any]) -> None:
    """Write each name beside its point, at the first of these places where nothing lies."""
    near = [(5, 0), (-5, 0), (0, 7), (0, -7), (5, 6), (5, -6), (-5, 6), (-5, -6)]
    far = [(side * 10, rise) for rise in (12, -12, 18, -18, 26, -26) for side in (1, -1)]
    line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.6", "shrinkA": 0, "shrinkB": 2}
    axis.figure.canvas.draw()
    size = 6 * axis.figure.dpi / 72
    points = [axis.transData.transform(point) for point in means.values()]
    taken = [Bbox.from_bounds(x - size / 2, y - size / 2, size, size) for x, y in points]
    for row, point in sorted(means.items(), key=lambda item: -item[1][1]):
        for at in near + far:
            text = axis.annotate(
                row,
                point,
                at,
                textcoords="offset points",
                ha={1: "left", 0: "center", -1: "right"}[np.sign(at[0])],
                va="center",
                fontsize=7,
                arrowprops=line if at in far else None,
            )
            text.get_window_extent()  # moves the text to its place
            box = Text.get_window_extent(text)  # is without the line
            if at == far[-1] or not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        taken.append(box)


def samples(rows: Sequence[str], alike: Mapping[str, Any], out: Path, device: str) -> None:
    """Draw two of each class by every row of seed 0, alike and in the row's own way."""
    runs = [(row, out / "runs" / f"{row}-0") for row in rows]
    runs = [(row, run) for row, run in runs if (run / "model.safetensors").is_file()]
    with figure.styled():
        drawing = figure.new_figure(7, 0.62 * len(runs))
        axes = drawing.subplots(len(runs), 2, squeeze=False)
        for pair, (row, run) in zip(axes, runs, strict=True):
            for axis, way in zip(pair, (alike, {}), strict=True):
                images = sample(run, num=20, device=device, **way).images
                grid = np.asarray(pictures.grid(images, 10, scale=32 // images.shape[-1]))
                axis.imshow(grid, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
            pair[0].set_ylabel(row, rotation=0, ha="right", va="center", fontsize=8)
        for axis, title in zip(axes[0], TITLES.values(), strict=True):
            axis.set_title(title, fontsize=9)
        figure.save(drawing, out / "samples.png", "Samples by method", "benchmarks/results")
