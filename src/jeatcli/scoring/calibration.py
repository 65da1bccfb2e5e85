"""How far a classifier's confidence can be believed (Guo et al. 2017)."""

import math
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

BINS = 15
# Half of fewer images says nothing about a temperature.
FEWEST = 20


@dataclass(frozen=True)
class Calibration:
    """The confidence max_y p(y|x) against the accuracy, in bins of equal width."""

    ece: float  # expected calibration error, sum_b n_b / n |accuracy_b - confidence_b|
    edges: list[float]  # from 0 to 1; a bin includes its upper edge, not its lower one
    counts: list[int]  # images in each bin
    confidence: list[float | None]  # means in each bin; None where there is no image
    accuracy: list[float | None]


@dataclass(frozen=True)
class Rescaled:
    """Calibration error and cross-entropy before and after temperature scaling.

    The temperature is fitted on the images of even index; the `n` others are measured.
    """

    temperature: float
    n: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float


def rescale(logits: Tensor, y: Tensor) -> Rescaled | None:
    """Fit a temperature to half of the logits (n, K) and judge it on the rest.

    None for too few images, and where no temperature is best.
    """
    logits = logits.double()
    if len(y) < FEWEST or (fitted := fit_temperature(logits[::2], y[::2])) is None:
        return None
    held_out, labels = logits[1::2], y[1::2]
    ece, nll = [], []
    for temperature in (1.0, fitted):
        scaled = held_out / temperature
        highest = scaled.softmax(1).max(1)
        ece.append(calibrate(highest.values, highest.indices == labels).ece)
        nll.append(cross_entropy(scaled, labels).item())
    return Rescaled(fitted, len(labels), *ece, *nll)


def fit_temperature(logits: Tensor, y: Tensor) -> float | None:
    """Return the temperature of the least cross-entropy, from 1/1000 to 1000.

    None if there is none: where all images are classified correctly, the cross-entropy falls on
    and on as T goes to 0; where the logits tell nothing of the classes, as T goes to infinity.
    """
    limit, own = math.log(1000), logits.gather(1, y[:, None])[:, 0]
    if (own >= logits.amax(1)).all() or own.mean() <= logits.mean():
        return None

    def loss(log_temperature: float) -> float:
        return cross_entropy(logits.double() / math.exp(log_temperature), y).item()

    # The loss is convex in 1 / T, so it has one minimum in log T.
    best = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-8})
    return math.exp(float(best.x))


def calibrate(confidence: Tensor, correct: Tensor, bins: int = BINS) -> Calibration:
    """Return the calibration of predictions.

    `confidence` is the probability of the predicted class, (n,) in (0, 1], and `correct` tells
    whether it was the right one, (n,).
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    index = torch.bucketize(confidence.double(), edges[1:-1])
    counts = torch.bincount(index, minlength=bins)
    confidences, accuracies = (
        torch.bincount(index, values.double(), minlength=bins) / counts
        for values in (confidence, correct)
    )
    gaps = torch.where(counts > 0, (confidences - accuracies).abs(), 0.0)
    ece = float((gaps * counts).sum() / len(confidence))
    means = (_known(confidences), _known(accuracies))
    return Calibration(ece, edges.tolist(), counts.tolist(), *means)


def _known(means: Tensor) -> list[float | None]:
    return [None if math.isnan(mean) else mean for mean in means.tolist()]
