"""The reliability diagram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..scoring.calibration import Calibration
from . import figure


def save_diagram(found: Calibration, path: Path, title: str) -> Path:
    """Draw the reliability diagram: accuracy over confidence, the share of images below.

    Raises:
        UsageProblem: If the ending is none of png, svg, pdf.
        JeatError: If the file cannot be written.
    """
    with figure.styled():
        drawn = _diagram(found, title)
        return figure.save(drawn, path, f"Reliability of {title}", f"ECE {found.ece:.4f}")


def _diagram(found: Calibration, title: str) -> Any:
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(3.2, 3.9), dpi=200, layout="constrained")
    upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    left, width = found.edges[:-1], found.edges[1] - found.edges[0]
    edge: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.5}
    heights = [0.0 if each is None else each for each in found.accuracy]
    upper.bar(left, heights, width, color="#4477aa", **edge)
    sure = [each for each in found.confidence if each is not None]
    true = [each for each in found.accuracy if each is not None]
    upper.plot(sure, true, "o", color="#222222", markersize=3)
    upper.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, linestyle=(0, (3, 2)))
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"{figure.plain_text(title)}, ECE {100 * found.ece:.2f} %")
    total = sum(found.counts)
    shares = [count / total for count in found.counts]
    lower.bar(left, shares, width, color="0.6", **edge)
    lower.set(xlabel="confidence", ylabel="share", ylim=(0, None))
    return drawn
