"""Curves along the two ways: a column a quantity, a row a way, a band of quantiles a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.threat import fraction
from ..landscapes.view import labels_of
from .figure import plain_text
from .lines import line, tidy

if TYPE_CHECKING:
    from ..landscapes.path import Paths

_SIZE = (9.2, 4.4)
_TITLES = ("$E(x, y)$", "$E(x)$", "$CE(x, y)$", "predicted as $y$")


def path_figure(found: Paths) -> Any:
    """Lay out the eight panels and one legend."""
    from matplotlib.figure import Figure

    from ..landscapes.path import WAYS

    figure = Figure(figsize=_SIZE, dpi=200, layout="constrained")
    axes = figure.subplots(len(WAYS), len(_TITLES), squeeze=False)
    for row, way in zip(axes, WAYS, strict=True):
        for quantity, axis in enumerate(row):
            _panel(axis, found, way, quantity)
            tidy(axis)
        row[0].set_ylabel(_caption(found, way))
    for axis, title in zip(axes[0], _TITLES, strict=True):
        axis.set_title(title, fontsize=10)
    _mark_ball(axes[0], found)
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure


def _caption(found: Paths, way: str) -> str:
    if way == "sgld":
        return "SGLD on $E(x, y)$\nfrom uniform noise"
    return f"PGD on {found.view.objective}\nfrom test images"


def _panel(axis: Any, found: Paths, way: str, quantity: int) -> None:
    from ..landscapes.path import QUANTILES, QUANTITIES

    steps = np.arange(found.ways[way].shape[2])
    for run, name in enumerate(labels_of(found.models)):
        values = found.ways[way][run, quantity]
        axis.plot(steps, values.mean(1), label=plain_text(name), **line(run))
        if QUANTITIES[quantity] != "correct":
            low, high = np.quantile(values, QUANTILES, axis=1)
            axis.fill_between(steps, low, high, color=line(run)["color"], alpha=0.13, linewidth=0)
    axis.set_xlim(0, steps[-1])
    axis.set_xlabel("step", fontsize=8, labelpad=1)
    if QUANTITIES[quantity] == "correct":
        axis.set_ylim(-0.03, 1.03)
    elif QUANTITIES[quantity] == "ce":
        axis.set_yscale("symlog", linthresh=1)
        axis.set_ylim(bottom=0)


def _mark_ball(row: Any, found: Paths) -> None:
    """Show the step from which the attack leaves its ball."""
    if not found.view.beyond:
        return
    for axis in row:
        axis.axvline(found.view.steps, color="0.5", linewidth=0.8, linestyle=(0, (2, 2)))
    row[0].annotate(
        f"leaves {found.threat.norm} {fraction(found.threat.eps)}",
        (found.view.steps, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(3, 0),
        textcoords="offset points",
        fontsize=7,
        color="0.35",
    )
