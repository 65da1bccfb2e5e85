"""Robust accuracy over the radius."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..core.threat import fraction
from ..robustness.result import Robustness
from .figure import NORMS, legend_below, line, mark, new_figure, plain_text, save, styled, tidy
from .settings import PLAIN, PlotSettings


def plot(
    results: Sequence[Robustness],
    names: Sequence[str],
    path: Path,
    radii: int,
    settings: PlotSettings = PLAIN,
) -> Path:
    """Draw the robust accuracy over eps, a curve for each model, from the clean accuracy on.

    `results` are those of `attack_each`, `radii` for each model, and `names` has one for each.
    """
    keys = ("run", "norm", "eps", "clean", "robust")
    about = [{key: getattr(result, key) for key in keys} for result in results]
    in_levels = all(fraction(result.eps).endswith("/255") or not result.eps for result in results)
    scale = 255 if in_levels else 1
    # Balls of several norms have no common size, so the legend says which is whose.
    symbols = {norm: rf"$\ell_{NORMS[norm]}$" for norm in sorted({r.norm for r in results})}
    several = len(symbols) > 1
    # A smallest radius an image gives a curve by itself.
    radii = 1 if results[0].minimum_norm else radii
    attacks = " + ".join(results[0].attacks)
    # Beside certified accuracies, which no attack measures, the legend says which is which.
    certified = any(result.certificate is not None for result in results)
    attacked = f", {attacks}" if certified else ""
    with styled(settings):
        figure = new_figure(4.2, 3.0)
        axis = figure.add_subplot()
        for number, begin in enumerate(range(0, len(results), radii)):
            curve = sorted(results[begin : begin + radii], key=lambda result: result.eps)
            norm = f", {symbols[curve[0].norm]}" if several else ""
            eps, robust = _points(curve)
            axis.plot(
                [scale * radius for radius in eps],
                [100 * share for share in robust],
                label=plain_text(names[begin]) + norm + attacked,
                # Marks at the ends are whole, not cut by the frame.
                clip_on=False,
                zorder=3,
                **line(number) | ({} if curve[0].minimum_norm else mark(number)),
            )
            if (sure := curve[0].certificate) is not None:
                axis.plot(
                    [scale * radius for radius in sure["curve"]["eps"]],
                    [100 * share for share in sure["curve"]["certified"]],
                    label=f"{plain_text(names[begin])}, certified",
                    **line(number) | {"linestyle": ":"},
                )
        ball = "" if several else f"{next(iter(symbols.values()))} "
        axis.set_xlabel(f"{ball}radius" + " (1/255)" * in_levels)
        axis.set_ylabel("accuracy (%)" if certified else f"accuracy under {attacks} (%)")
        axis.set_ylim(0, 100)
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", nbins=5)
        tidy(axis)
        _name_curves(figure, axis)
        return save(figure, path, "Accuracy under attack", json.dumps(about), settings)


def _name_curves(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    # Few short names are beside the curves, others would cover them.
    if len(labels) <= 5 and max(map(len, labels)) <= 32:
        axis.legend(frameon=False)
    else:
        legend_below(figure, (handles, labels), most=2)


def _points(curve: Sequence[Robustness]) -> tuple[list[float], list[float]]:
    """Return radii and accuracies: of one result each, or of all smallest radii."""
    if (found := curve[0].minimum_norm) is not None:
        return found["curve"]["eps"], found["curve"]["robust"]
    return (
        [0.0, *(result.eps for result in curve)],
        [curve[0].clean, *(result.robust for result in curve)],
    )
