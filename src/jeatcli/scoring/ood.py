"""Telling images of other kinds from those of the classifier's own (Grathwohl et al. 2020)."""

from __future__ import annotations

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from ..checkpoints.model import Model
from ..core import energy
from ..data.images import to_unit_range
from ..errors import JeatError
from ..runtime.progress import SILENT, Reporter

# The scores, by which the classifier's own images should be the higher ones.
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
    found = (
        density.detach(),
        # In float64, which Apple's devices do not have.
        energy.class_probabilities(finite(model, logits.detach().cpu()).double()).amax(1),
        -finite(model, slope).flatten(1).norm(dim=1),
    )
    return {name: each.cpu().double() for name, each in zip(SCORES, found, strict=True)}


def finite(model: Model, found: Tensor) -> Tensor:
    """Return what was computed for images (n, ...).

    Raises:
        JeatError: If a value is not finite: ranks and bins would take it for a number.
    """
    if bad := int((~torch.isfinite(found.flatten(1))).any(1).sum()):
        raise JeatError(
            f"the logits of `{model.name}`, or their gradients, are not finite for {bad:,} of "
            f"{len(found):,} images",
            "the run may have diverged: take an earlier one, or check the checkpoint",
        )
    return found


def auroc(own: Tensor, other: Tensor) -> float:
    """Return the probability that one of `own` (n,) is above one of `other` (m,), ties half.

    It is the area under the ROC curve (Mann and Whitney 1947).
    """
    above = mannwhitneyu(own.double().numpy(), other.double().numpy(), method="asymptotic")
    return float(above.statistic / (len(own) * len(other)))
