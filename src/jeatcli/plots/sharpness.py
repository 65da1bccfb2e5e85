"""The rise over the radius, and the other measures as points with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.threat import fraction
from ..landscapes.view import labels_of
from .figure import figure_text, plain_text
from .lines import line, mark, tidy

if TYPE_CHECKING:
    from ..landscapes.sharpness import Sharpness

_SIZE = (7.0, 4.6)


def sharpness_figure(found: Sharpness) -> Any:
    """Lay out the curves above and the four measures below, a row a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=200, layout="constrained")
    grid = figure.add_gridspec(2, 4, height_ratios=(1.5, 1))
    names = [plain_text(name) for name in labels_of(found.models)]
    _curves(figure.add_subplot(grid[0, :]), found, names)
    ball = f"{found.threat.norm} {fraction(found.threat.eps)}"
    captions = {
        "energy": "$E(x, y)$ at the data",
        "worst": f"worst rise, {ball}",
        "gradient": r"$\|\nabla_x E(x, y)\|_2$",
        "curvature": r"top eigenvalue of $\nabla_x^2 E$",
    }
    for column, (measure, caption) in enumerate(captions.items()):
        axis = figure.add_subplot(grid[1, column])
        _points(axis, found, measure, names if column == 0 else [""] * len(names))
        axis.set_xlabel(caption, fontsize=8)
    return figure


def _curves(axis: Any, found: Sharpness, names: list[str]) -> None:
    radii = np.array(found.view.radius)
    for run, name in enumerate(names):
        each = [found.interval(rises) for rises in found.rises[run]]
        means = [point.mean for point in each]
        axis.plot(radii, means, label=name, **line(run))
        axis.plot(radii, means, linestyle="none", **mark(run))
        ends = [point.low for point in each], [point.high for point in each]
        axis.fill_between(radii, *ends, color=line(run)["color"], alpha=0.15, linewidth=0)
    _scale(axis, found)
    axis.set_xscale("log", base=2)
    axis.set_xticks(radii, [f"{radius:g}" for radius in radii])
    axis.set_xlabel(f"radius (units of {fraction(found.unit)} per-pixel RMS)")
    axis.set_ylabel("mean rise of $E(x, y)$\nin random directions")
    axis.legend(frameon=False, fontsize=8, ncols=min(len(names), 4), loc="upper left")
    tidy(axis)


def _scale(axis: Any, found: Sharpness) -> None:
    """Rises come in powers of ten; where some are falls, the scale is linear around 0."""
    means = found.rises.mean(2)
    if (means > 0).all():
        axis.set_yscale("log")
        axis.set_ylim(bottom=float(means.min()) / 2)
    else:
        axis.set_yscale("symlog", linthresh=float(max(np.median(np.abs(means)), 1e-6)))


def _points(axis: Any, found: Sharpness, measure: str, names: list[str]) -> None:
    rows = range(len(names))[::-1]
    for run, row in enumerate(rows):
        point = found.interval(found.values[measure][run])
        axis.plot([point.low, point.high], [row, row], color="0.35", linewidth=1.2)
        axis.plot(point.mean, row, **mark(run))
        axis.annotate(
            figure_text(point.mean),
            (point.mean, row),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axis.set_yticks(list(rows), names)
    axis.set_ylim(-0.6, len(names) - 0.2)
    axis.margins(x=0.25)
    axis.locator_params(axis="x", nbins=4)
    axis.tick_params(axis="x", labelsize=7)
    tidy(axis)
