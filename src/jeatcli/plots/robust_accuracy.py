"""Robust accuracy over the radius."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..core.threat import fraction
from ..robustness.result import Robustness
from . import figure
from .lines import line, mark, tidy

# Inches, and dots per inch.
_SIZE = (4.2, 3.0)


_DPI = 200


def plot(results: Sequence[Robustness], names: Sequence[str], path: Path, radii: int) -> Path:
    """Draw the robust accuracy over eps, a curve for each model, from the clean accuracy on.

    Args:
        results: What `attack_each` returned.
        names: Of the models, one a result.
        path: Where the picture goes.
        radii: How many results each model has.

    Raises:
        UsageProblem: If the path ends in none of .png, .svg, .pdf.
        JeatError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure.check_path(path)
    levels = all(fraction(result.eps).endswith("/255") or not result.eps for result in results)
    scale = 255 if levels else 1
    keys = ("run", "norm", "eps", "clean", "robust")
    about = [{key: getattr(result, key) for key in keys} for result in results]
    norms = sorted({result.norm for result in results})
    with figure.styled():
        drawing = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        axis = drawing.add_subplot()
        for number, begin in enumerate(range(0, len(results), radii)):
            mine = sorted(results[begin : begin + radii], key=lambda result: result.eps)
            offsets = [0.0, *(result.eps for result in mine)]
            shares = [mine[0].clean, *(result.robust for result in mine)]
            axis.plot(
                [scale * radius for radius in offsets],
                [100 * share for share in shares],
                label=figure.plain_text(names[begin]) + (f", {mine[0].norm}" if norms[1:] else ""),
                **line(number) | mark(number),
            )
        first = results[0]
        # Balls of several norms have no common size; the legend says whose is which.
        axis.set_xlabel(("eps" if norms[1:] else f"{norms[0]} eps") + levels * ", in 1/255")
        axis.set_ylabel(f"accuracy under {' + '.join(first.attacks)}, %")
        axis.set_ylim(0, 100)
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", nbins=5)
        tidy(axis)
        axis.legend(frameon=False)
        return figure.save(drawing, path, "Accuracy under attack", json.dumps(about))
