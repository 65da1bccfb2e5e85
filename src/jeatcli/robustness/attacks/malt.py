"""MALT: the targets whose boundaries are nearest by local linearity (Melamed et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from . import NEAR_TARGETS
from .apgd import toward_classes
from .batch import AttackOptions, Batch
from .fab import dual_norm
from .surrogate import Surrogate


def malt(
    surrogate: Surrogate, batch: Batch, options: AttackOptions, *, steps: int, restarts: int
) -> Tensor:
    """Return adversarial images where APGD toward any of the nearest classes finds one."""
    classes = nearest_classes(surrogate, batch, options.threat.norm)
    return toward_classes(surrogate, batch, options, classes, steps, restarts)


def nearest_classes(surrogate: Surrogate, batch: Batch, norm: str) -> Tensor:
    """Return the three classes (n, T) of least (f[y] - f[k]) / |d(f[y] - f[k])/dx|, or the target.

    The norm of the gradient is the dual one. One forward pass, K backward passes.
    """
    if batch.target is not None:
        return batch.target[:, None]
    with torch.enable_grad():
        x = batch.x.detach().requires_grad_(True)
        logits = surrogate(x)
        leads = logits.gather(1, batch.y[:, None]) - logits
        last = logits.shape[1] - 1
        away = torch.full_like(leads, torch.inf)
        for k in range(last + 1):
            (slope,) = torch.autograd.grad(leads[:, k].sum(), x, retain_graph=k < last)
            distance = leads[:, k].detach() / (dual_norm(slope.flatten(1), norm) + 1e-12)
            away[:, k] = torch.where(batch.y == k, torch.inf, distance)
    surrogate.backward += len(x) * (last + 1)
    return away.detach().topk(min(NEAR_TARGETS, last), dim=1, largest=False).indices
