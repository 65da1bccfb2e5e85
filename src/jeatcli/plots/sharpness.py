"""The rise over the radius, and the other measures as points with their intervals."""

from typing import Any

import numpy as np

from ..core.threat import fraction
from ..landscapes.sharpness import SharpnessResult
from .figure import (
    ball_text,
    faint,
    figure_text,
    label_above,
    legend_below,
    legend_columns,
    line,
    mark,
    new_figure,
    plain_text,
    tidy,
)


def draw_sharpness(result: SharpnessResult) -> Any:
    """Lay out the curves above and the four measures below, a row a run."""
    # The points of more than five runs need more height.
    further = max(0, len(result.runs) - 5)
    figure = new_figure(7.0, 4.6 + 0.35 * further)
    grid = figure.add_gridspec(2, 4, height_ratios=(1.5, 1 + 0.15 * further))
    names = [plain_text(run.label) for run in result.runs]
    curves = figure.add_subplot(grid[0, :])
    _curves(curves, result, names)
    # The names beside the points leave the curves so much less room.
    room = figure.get_figwidth() - 0.7 - 0.07 * max(map(len, names))
    columns = legend_columns(names, room, most=4)
    if len(names) <= 2 * columns:
        curves.legend(frameon=False, fontsize="small", ncols=columns, loc="upper left")
    else:
        legend_below(figure, curves.get_legend_handles_labels(), most=4)
    captions = {
        "energy": "$E(x, y)$ at the data",
        "worst": f"worst rise, {ball_text(result.threat)}",
        "gradient": r"$\|\nabla_x E(x, y)\|_2$",
        "curvature": r"top eigenvalue of $\nabla_x^2 E$",
    }
    for column, (measure, caption) in enumerate(captions.items()):
        axis = figure.add_subplot(grid[1, column])
        _points(axis, result, measure, names if column == 0 else [""] * len(names))
        axis.set_xlabel(caption, fontsize="small")
    return figure


def _curves(axis: Any, result: SharpnessResult, names: list[str]) -> None:
    radii = np.array(result.settings.radius)
    bottom = _bottom(result)
    for run, name in enumerate(names):
        points = [result.interval(rises) for rises in result.rises[run]]
        means = [point.mean for point in points]
        axis.plot(radii, means, label=name, **line(run) | mark(run))
        # On a scale of powers of ten, an interval that reaches below 0 ends at the lower edge.
        lows = [max(point.low, bottom or point.low) for point in points]
        highs = [point.high for point in points]
        axis.fill_between(radii, lows, highs, color=line(run)["color"], alpha=0.15, linewidth=0)
    _scale(axis, result, bottom)
    axis.set_xscale("log", base=2)
    axis.set_xticks(radii, [f"{radius:g}" for radius in radii])
    axis.set_xlabel(f"radius (units of {fraction(result.unit)} per-pixel RMS)")
    axis.set_ylabel("mean rise of $E(x, y)$\nin random directions")
    tidy(axis)


def _bottom(result: SharpnessResult) -> float | None:
    """Return the lower edge of a scale of powers of ten, unless some rises are falls."""
    means = result.rises.mean(2)
    return float(means.min()) / 2 if (means > 0).all() else None


def _scale(axis: Any, result: SharpnessResult, bottom: float | None) -> None:
    """Rises come in powers of ten; where some are falls, the scale is linear around 0."""
    if bottom is not None:
        axis.set_yscale("log")
        axis.set_ylim(bottom=bottom)
    else:
        means = result.rises.mean(2)
        axis.set_yscale("symlog", linthresh=float(max(np.median(np.abs(means)), 1e-6)))


def _points(axis: Any, result: SharpnessResult, measure: str, names: list[str]) -> None:
    rows = range(len(names))[::-1]
    for run, row in enumerate(rows):
        point = result.interval(result.values[measure][run])
        axis.plot([point.low, point.high], [row, row], linewidth=1.2, **faint(0.65))
        axis.plot(point.mean, row, **mark(run))
        axis.annotate(figure_text(point.mean), (point.mean, row), **label_above(5))
    axis.set_yticks(list(rows), names)
    axis.set_ylim(-0.6, len(names) - 0.2)
    axis.margins(x=0.25)
    axis.locator_params(axis="x", nbins=4)
    axis.tick_params(axis="x", labelsize="small")
    tidy(axis)
