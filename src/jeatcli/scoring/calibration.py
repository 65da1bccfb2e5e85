"""How far a classifier's confidence can be believed (Guo et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

BINS = 15
# Of fewer images a half says nothing of a temperature.
_FEWEST = 20


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


@dataclass(frozen=True)
class Rescaled:
    """What dividing the logits by a temperature changes, on images that did not fit it.

    Args:
        temperature: Of the least cross-entropy on the images at even places; above 1 for a
            classifier that is too sure of itself.
        n: Images at odd places, of which the following are.
        ece_before, ece_after: Expected calibration error.
        nll_before, nll_after: Mean cross-entropy.
    """

    temperature: float
    n: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float


def rescale(logits: Tensor, y: Tensor) -> Rescaled | None:
    """Fit a temperature (Guo et al. 2017) on one half of the images, and judge it on the other.

    Args:
        logits: (n, K); computed with in float64, where the minimum is found.
        y: Their labels (n,).

    Returns:
        None for too few images.
    """
    if len(y) < _FEWEST:
        return None
    logits = logits.double()
    fitted = fit_temperature(logits[::2], y[::2])
    held_out, labels = logits[1::2], y[1::2]
    ece, nll = [], []
    for temperature in (1.0, fitted):
        scaled = held_out / temperature
        highest = scaled.softmax(1).max(1)
        ece.append(calibrate(highest.values, highest.indices == labels).ece)
        nll.append(torch.nn.functional.cross_entropy(scaled, labels).item())
    return Rescaled(fitted, len(labels), *ece, *nll)


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    """Return the temperature of the least cross-entropy, from 1/1000 to 1000."""
    limit = math.log(1000)

    def loss(log_temperature: float) -> float:
        scaled = logits.double() / math.exp(log_temperature)
        return torch.nn.functional.cross_entropy(scaled, y).item()

    # The loss is convex in 1 / T, so it has one minimum in log T.
    best = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-8})
    return math.exp(float(best.x))


def calibrate(confidence: Tensor, correct: Tensor, bins: int = BINS) -> Calibration:
    """Return the calibration of predictions.

    Args:
        confidence: The probability of the predicted class, (n,) in (0, 1].
        correct: Whether it was the right one, (n,).
        bins: Of equal width.
    """
    confidence, right = confidence.double(), correct.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    index = torch.bucketize(confidence, edges[1:-1])
    counts = torch.bincount(index, minlength=bins)
    sums = (torch.bincount(index, values, minlength=bins) for values in (confidence, right))
    means = [total / counts for total in sums]
    gaps = torch.where(counts > 0, (means[0] - means[1]).abs(), 0.0)
    sure, true = ([None if math.isnan(v) else v for v in row.tolist()] for row in means)
    ece = float((gaps * counts).sum() / len(confidence))
    return Calibration(ece, edges.tolist(), counts.tolist(), sure, true)
