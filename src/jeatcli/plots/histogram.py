"""Ridges: a row a set, a panel a run; E(x) filled, E(x,y) as a line, the test images' median."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..landscapes.view import labels_of
from .figure import plain_text
from .lines import COLOURS

if TYPE_CHECKING:
    from ..landscapes.histogram import Histograms

# Inches: a panel's width, a ridge's height, what lies around them; and what the legend takes.
_WIDTH, _ROW, _LEFT, _REST = 1.9, 0.42, 1.0, 0.95
_LEGEND = 3.9
_BINS = 48
_CUT = (0.005, 0.995)


def histogram_figure(found: Histograms) -> Any:
    """Lay out the panels, each on its own axis: the energies of runs differ in scale."""
    from matplotlib.figure import Figure

    names = labels_of(found.models)
    width = max(_LEFT + _WIDTH * len(names), _LEGEND)
    size = (width, _REST + _ROW * len(found.values))
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for run, (axis, name) in enumerate(zip(axes, names, strict=True)):
        _panel(axis, found, run)
        axis.set_title(plain_text(name))
    rows = range(len(found.values))
    axes[0].set_yticks(rows, [plain_text(found.label(name)) for name in found.values])
    axes[0].set_ylim(len(rows) - 0.9, -1.0)
    figure.supxlabel("energy (units of the logits)", fontsize=9)
    figure.legend(*_legend(), loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    return figure


def _panel(axis: Any, found: Histograms, run: int) -> None:
    everything = np.concatenate([each[run].ravel() for each in found.values.values()])
    low, high = np.quantile(everything, _CUT)
    slack = 0.04 * (high - low) + 1e-6
    edges = np.linspace(low - slack, high + slack, _BINS + 1)
    for row, values in enumerate(found.values.values()):
        marginal, joint = (_heights(each, edges) for each in values[run])
        _ridge(axis, row, edges, marginal, joint)
    median = float(np.median(found.values["test"][run, 0]))
    axis.axvline(median, color="0.4", linewidth=0.8, linestyle=(0, (2, 2)), zorder=50)
    axis.set_xlim(edges[0], edges[-1])
    axis.locator_params(axis="x", nbins=4)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _heights(values: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bins' shares, the highest bin 0.9 of a row; what is beyond is in the last bins."""
    counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0]
    return 0.9 * counts / max(int(counts.max()), 1)


def _ridge(
    axis: Any,
    row: int,
    edges: NDArray[np.float64],
    marginal: NDArray[np.float64],
    joint: NDArray[np.float64],
) -> None:
    """Draw one set on its line; later rows lie over earlier ones."""
    axis.stairs(row - marginal, edges, baseline=row, fill=True, color="0.72", zorder=2 * row + 1)
    axis.stairs(
        row - joint, edges, baseline=None, color=COLOURS[2], linewidth=1, zorder=2 * row + 2
    )
    axis.axhline(row, color="0.5", linewidth=0.5, zorder=2 * row + 2)


def _legend() -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(color="0.72"),
        Line2D([], [], color=COLOURS[2], linewidth=1),
        Line2D([], [], color="0.4", linewidth=0.8, linestyle=(0, (2, 2))),
    ]
    return handles, ["$E(x)$", "$E(x, y)$", "median $E(x)$ of the test images"]
