"""MALT: the targets whose boundaries are nearest by local linearity (Melamed et al. 2024)."""

import torch
from torch import Tensor

from . import NEAR_TARGETS
from .apgd import apgd_toward
from .batch import AttackOptions, Batch
from .fab import boundaries
from .surrogate import Surrogate


def malt(
    surrogate: Surrogate, batch: Batch, options: AttackOptions, *, steps: int, restarts: int
) -> Tensor:
    """Return adversarial images where APGD toward any of the nearest classes finds one."""
    classes = nearest_classes(surrogate, batch, options.threat.norm)
    return apgd_toward(surrogate, batch, options, classes=classes, steps=steps, restarts=restarts)


def nearest_classes(surrogate: Surrogate, batch: Batch, norm: str) -> Tensor:
    """Return the three classes (n, T) of least (f[y] - f[k]) / |d(f[y] - f[k])/dx|, or the target.

    The norm of the gradient is the dual one.
    """
    if batch.target is not None:
        return batch.target[:, None]
    away = [
        torch.where(batch.y == k, torch.inf, -lead / dual)
        for k, (lead, _, dual) in enumerate(boundaries(surrogate, batch, batch.x, norm))
    ]
    nearest = torch.stack(away, 1).topk(min(NEAR_TARGETS, len(away) - 1), dim=1, largest=False)
    return nearest.indices
