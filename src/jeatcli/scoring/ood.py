"""Out-of-distribution detection by the classifier's own scores (Grathwohl et al. 2020)."""

import math
from typing import Any

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from ..checkpoints.model import Model
from ..core import energy
from ..data.images import Images, batches, to_unit_range
from ..errors import JeatError
from ..runtime.progress import SILENT, Reporter

# The scores, which should be higher for the classifier's own images.
SCORES = ("log_density", "max_probability", "gradient_norm")


def own_scores(
    model: Model, images: Tensor, batch_size: int = 256, reporter: Reporter = SILENT
) -> dict[str, Tensor]:
    """Score uint8 images (n, C, H, W); return (n,) float64 for each name of `SCORES`.

    `log_density` is -E(x), which is log p(x) but for a constant, `max_probability` max_y p(y|x),
    and `gradient_norm` -|d log p(x) / dx|_2, the approximate mass of Grathwohl et al. (2020): it
    is small where the density is flat, as in the middle of the data.
    """
    parts = []
    with reporter.track("scores", len(images)) as bar:
        for batch in torch.split(images, batch_size):
            parts.append(_scores(model, batch))
            bar(len(batch))
    return {name: torch.cat([part[name] for part in parts]) for name in SCORES}


def _scores(model: Model, images: Tensor) -> dict[str, Tensor]:
    x = to_unit_range(images.to(model.device)).requires_grad_(True)
    logits = model.classifier(x)
    density = -energy.marginal(logits)
    (slope,) = torch.autograd.grad(density.sum(), x)
    values = (
        density.detach(),
        # In float64, which Apple's devices do not have.
        energy.class_probabilities(finite(model, logits.detach().cpu()).double()).amax(1),
        -finite(model, slope).flatten(1).norm(dim=1),
    )
    return {name: row.cpu().double() for name, row in zip(SCORES, values, strict=True)}


@torch.no_grad()
def classify(model: Model, images: Images, batch_size: int) -> Tensor:
    """Return the logits of images, float64 (n, K)."""
    parts = [
        finite(model, model.classifier(x.to(model.device)).cpu())
        for x, _ in batches(images, batch_size)
    ]
    return torch.cat(parts).double()


def finite(model: Model, values: Tensor) -> Tensor:
    """Return values of images (n, ...), all finite: ranks and bins would take NaN for a number."""
    if bad := int((~torch.isfinite(values.flatten(1))).any(1).sum()):
        raise JeatError(
            f"the logits of `{model.name}`, or their gradients, are not finite for {bad:,} of "
            f"{len(values):,} images",
            "the run may have diverged: use an earlier one, or check the checkpoint",
        )
    return values


def separation(own: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Any]:
    """Return the areas under the ROC curve by score, and under `fpr95` and `aupr` the other two."""
    areas, rates, precisions = (
        {name: measure(own[name], other[name]) for name in SCORES}
        for measure in (auroc, fpr95, average_precision)
    )
    return {**areas, "fpr95": rates, "aupr": precisions}


def auroc(own: Tensor, other: Tensor) -> float:
    """Return the probability that one of `own` (n,) is above one of `other` (m,), ties half.

    It is the area under the ROC curve (Mann and Whitney 1947).
    """
    above = mannwhitneyu(own.double().numpy(), other.double().numpy(), method="asymptotic")
    return float(above.statistic / (len(own) * len(other)))


def fpr95(own: Tensor, other: Tensor) -> float:
    """Return the share of `other` (m,) at or above the score that 95 % of `own` (n,) reach.

    It is the false positive rate at that true positive rate, `own` being the positive images.
    """
    accepted = math.ceil(0.95 * len(own) - 1e-9)
    threshold = own.sort(descending=True).values[accepted - 1]
    return (other >= threshold).double().mean().item()


def average_precision(own: Tensor, other: Tensor) -> float:
    """Return the mean, over the images of `own`, of the precision at their scores.

    It is the area under the precision-recall curve without interpolation, and so the share of
    `own` among all images for a score that is constant.
    """
    scores = torch.cat([own, other])
    thresholds, inverse = scores.unique(return_inverse=True)
    positive = torch.bincount(inverse[: len(own)], minlength=len(thresholds)).flip(0)
    total = torch.bincount(inverse, minlength=len(thresholds)).flip(0)
    precision = positive.cumsum(0).double() / total.cumsum(0)
    return ((positive * precision).sum() / len(own)).item()
