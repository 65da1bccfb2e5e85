"""FMN: the nearest adversarial image, by an adaptive radius (Pintor et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...core import objectives, pgd
from ...core.threat import NORMS
from .batch import AttackOptions, Batch
from .surrogate import Surrogate

# The paper's constants: the Euclidean length of a step and the relative change of the radius, from
# the first step to the last.
_LENGTH = 1.0, 0.01
_CHANGE = 0.05, 0.001


def fmn(surrogate: Surrogate, batch: Batch, options: AttackOptions, *, steps: int) -> Tensor:
    """Return the nearest adversarial image found, where it is in the ball, else the image.

    The radius of an image shrinks while its iterate is adversarial and grows while it is not; at
    first it is the distance to the boundary that the margin's gradient predicts.
    """
    x = batch.x
    norm = NORMS.load(options.threat.norm)
    loss = objectives.loss("margin", surrogate, x, batch.y, batch.target)
    distance, unit = norm(0.0).distance, norm(1.0)
    # The farthest corner of the pixel range bounds every radius.
    widest = distance((x < 0.5).float(), x)
    nearest = torch.full_like(widest, torch.inf)
    best, moved, radius = x.clone(), x, widest
    for step in range(steps):
        surrogate.on_step()
        change = _annealed(_CHANGE, step / steps)
        values, gradient, logits = surrogate.gradient(loss, moved)
        beyond, away = batch.broken(logits), distance(moved, x)
        nearer = beyond & (away < nearest)
        found = surrogate.confirmed(batch, moved, nearer)
        beyond = beyond & (found | ~nearer)
        best = torch.where(found.view(-1, 1, 1, 1), moved, best)
        nearest = torch.where(found, away, nearest)
        # Along the steepest step of length 1 a linear margin rises by its dual norm.
        rise = (gradient * unit.step(gradient, 1.0)).flatten(1).sum(1)
        predicted = away + values.abs() / rise.clamp_min(1e-12)
        # Beyond what is predicted, too, which on a linear model is the boundary itself.
        ahead = torch.where(nearest.isfinite(), radius, predicted) * (1 + change)
        radius = torch.where(beyond, torch.minimum(radius * (1 - change), nearest), ahead)
        radius = torch.minimum(radius, widest)
        forward = _annealed(_LENGTH, step / steps) * pgd.normalize_l2(gradient)
        moved = norm(radius.view(-1, 1, 1, 1)).project(moved + forward, x).clamp_(0, 1)
    return torch.where((nearest <= options.threat.eps).view(-1, 1, 1, 1), best, x)


def _annealed(ends: tuple[float, float], share: float) -> float:
    first, last = ends
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
