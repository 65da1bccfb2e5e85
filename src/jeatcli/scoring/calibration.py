"""How far a classifier's confidence can be believed (Guo et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

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
