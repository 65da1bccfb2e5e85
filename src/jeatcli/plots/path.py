"""Curves along the two paths: a column a quantity, a row a path, a band of quantiles a run."""

from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from ..landscapes.path import PATHS, QUANTILES, QUANTITIES, PathResult
from .figure import DOTTED, ball_text, legend_below, line, new_figure, plain_text, tidy

_TITLES = ("$E(x, y)$", "$E(x)$", r"$\mathrm{CE}(x, y)$", "predicted as $y$")
_OBJECTIVES = {"ce": r"$\mathrm{CE}$", "joint": "$E(x, y)$", "marginal": "$E(x)$", "dlr": "DLR"}


def draw_paths(result: PathResult) -> Any:
    """Lay out the eight panels and one legend."""
    figure = new_figure(9.2, 4.4)
    axes = figure.subplots(len(PATHS), len(_TITLES), squeeze=False)
    for row, path in zip(axes, PATHS, strict=True):
        for quantity, axis in enumerate(row):
            _panel(axis, result, path, quantity)
            tidy(axis)
        row[0].set_ylabel(_caption(result, path))
    for axis, title in zip(axes[0], _TITLES, strict=True):
        axis.set_title(title)
    handles, names = axes[0][0].get_legend_handles_labels()
    low, high = (round(100 * share) for share in QUANTILES)
    handles.append(Patch(color="0.5", alpha=0.3, linewidth=0))
    names = [*names, f"bands: {low} to {high} % of the images"]
    if result.settings.beyond:
        handles.append(_mark_ball(axes[0], result))
        names.append(f"leaves the ball, {ball_text(result.threat)}")
    legend_below(figure, (handles, names))
    return figure


def _caption(result: PathResult, path: str) -> str:
    if path == "sgld":
        return "SGLD on $E(x, y)$\nfrom noise"
    objective = result.settings.objective
    return f"PGD on {_OBJECTIVES.get(objective, objective)}\nfrom images"


def _panel(axis: Any, result: PathResult, path: str, quantity: int) -> None:
    steps = np.arange(result.values[path].shape[2])
    for k, run in enumerate(result.runs):
        values = result.values[path][k, quantity]
        axis.plot(steps, values.mean(1), label=plain_text(run.label), **line(k))
        if QUANTITIES[quantity] != "correct":
            low, high = np.quantile(values, QUANTILES, axis=1)
            axis.fill_between(steps, low, high, color=line(k)["color"], alpha=0.13, linewidth=0)
    axis.set_xlim(0, steps[-1])
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=(1, 2, 2.5, 5, 10)))
    axis.set_xlabel("step", fontsize="small", labelpad=1)
    if QUANTITIES[quantity] == "correct":
        axis.set_ylim(-0.03, 1.03)
    elif QUANTITIES[quantity] == "ce":
        _loss_axis(axis)


def _loss_axis(axis: Any) -> None:
    """Scale losses as log(1 + CE), with ticks that are read as numbers."""
    axis.set_yscale("function", functions=(np.log1p, np.expm1))
    axis.set_ylim(bottom=0)
    top = axis.get_ylim()[1]
    # Those with room for their numbers, from 0 up; a panel is about a third of the picture.
    lines = 72 * axis.figure.get_figheight() / 3 / rcParams["font.size"]
    ticks = [0.0]
    for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if tick <= top and np.log1p(tick) - np.log1p(ticks[-1]) > 1.5 * np.log1p(top) / lines:
            ticks.append(tick)
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _mark_ball(row: Any, result: PathResult) -> Any:
    """Mark the step at which the attack leaves its ball; return a line."""
    marks = [axis.axvline(result.settings.steps, **DOTTED) for axis in row]
    return marks[0]
