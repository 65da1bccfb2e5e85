"""How far a classifier's confidence can be believed (Guo et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..plots import figure

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """The confidence max_y p(y|x) against the accuracy, in bins of equal width.

    Args:
        ece: Expected calibration error, sum_b n_b / n |accuracy_b - confidence_b|.
        edges: Of the bins, from 0 to 1; a bin holds its upper edge, and not its lower one.
        counts: Images in each bin.
        confidence, accuracy: Their means in each bin; None where there is no image.
    """

    ece: float
    edges: list[float]
    counts: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


def calibrate(confidence: Tensor, correct: Tensor, bins: int = BINS) -> Calibration:
    """Return the calibration of predictions.

    Args:
        confidence: The probability of the predicted class, (n,) in (0, 1].
        correct: Whether it was the right one, (n,).
        bins: Of equal width.
    """
    confidence, right = confidence.double(), correct.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = torch.bucketize(confidence, edges[1:-1])
    counts = torch.bincount(place, minlength=bins)
    sums = (torch.bincount(place, each, minlength=bins) for each in (confidence, right))
    means = [each / counts for each in sums]
    gaps = torch.where(counts > 0, (means[0] - means[1]).abs(), 0.0)
    sure, true = ([None if math.isnan(v) else v for v in each.tolist()] for each in means)
    ece = float((gaps * counts).sum() / len(confidence))
    return Calibration(ece, edges.tolist(), counts.tolist(), sure, true)


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
