"""Ridges: a row a set, a panel a run; E(x) filled, E(x,y) as a line, the test images' median."""

import math
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ..landscapes.histogram import HistogramResult
from .figure import COLOURS, DOTTED, new_figure, plain_text

# Inches: a panel's width, a ridge's height, what lies around them; and what the legend takes.
_WIDTH, _ROW, _LEFT, _REST = 1.9, 0.42, 1.0, 0.95
_LEGEND = 3.9
# The most panels beside each other, as wide as a page, and the height between two lines of them.
_ABREAST, _BETWEEN = 5, 0.5
_MOST_BINS = 60
_GREY = "0.72"


def draw_histograms(result: HistogramResult) -> Any:
    """Lay out the panels, each on its own axis: the energies of runs differ in scale."""
    count = len(result.runs)
    columns = math.ceil(count / math.ceil(count / _ABREAST))  # lines as even as can be
    lines = -(-count // columns)
    height = lines * _ROW * len(result.values) + (lines - 1) * _BETWEEN
    figure = new_figure(max(_LEFT + _WIDTH * columns, _LEGEND), _REST + height)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
    for axis in axes[count:]:
        axis.remove()
    for k, (axis, run) in enumerate(zip(axes, result.runs, strict=False)):
        _panel(axis, result, k)
        axis.set_title(plain_text(run.label))
    labels = [result.settings.against if name == "against" else name for name in result.values]
    axes[0].set_yticks(range(len(labels)), [plain_text(str(label)) for label in labels])
    axes[0].set_ylim(len(labels) - 0.9, -1.0)
    figure.supxlabel("energy (units of the logits)", fontsize="medium")
    columns = 3 if figure.get_figwidth() >= _LEGEND else 2
    figure.legend(*_legend(), loc="outside upper right", ncols=columns, frameon=False)
    return figure


def _panel(axis: Any, result: HistogramResult, run: int) -> None:
    energies = np.concatenate([values[run].ravel() for values in result.values.values()])
    low, high = float(energies.min()), float(energies.max())
    slack = 0.02 * (high - low) + 1e-6
    # Of few images a fine histogram shows each one, and no shape.
    bins = min(_MOST_BINS, round(4.5 * math.sqrt(result.values["test"].shape[2])))
    edges = np.linspace(low - slack, high + slack, bins + 1)
    for row, values in enumerate(result.values.values()):
        marginal, joint = (_heights(numbers, edges) for numbers in values[run])
        # Later rows lie over earlier ones.
        order = 2 * row + 1
        axis.stairs(row - marginal, edges, baseline=row, fill=True, color=_GREY, zorder=order)
        line: dict[str, Any] = {"color": COLOURS[2], "linewidth": 1, "zorder": order + 1}
        axis.stairs(row - joint, edges, baseline=None, **line)
        axis.axhline(row, color="0.5", linewidth=0.5, zorder=order + 1)
    axis.axvline(float(np.median(result.values["test"][run, 0])), zorder=50, **DOTTED)
    axis.set_xlim(edges[0], edges[-1])
    axis.locator_params(axis="x", nbins=4 if len(result.runs) > 1 else 7)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _heights(values: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bins' shares, the highest bin 0.9 of a row."""
    counts = np.histogram(values, edges)[0]
    return 0.9 * counts / max(int(counts.max()), 1)


def _legend() -> tuple[list[Any], list[str]]:
    outline = Line2D([], [], color=COLOURS[2], linewidth=1)
    handles = [Patch(color=_GREY), outline, Line2D([], [], **DOTTED)]
    return handles, ["$E(x)$", "$E(x, y)$", "median $E(x)$ of the test images"]
