"""FMN: the nearest adversarial image, by an adaptive radius (Pintor et al. 2021)."""

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
# Not in the paper: forward passes of the bisection that ends the attack.
_HALVINGS = 8


def fmn(surrogate: Surrogate, batch: Batch, options: AttackOptions, *, steps: int) -> Tensor:
    """Return the nearest adversarial image found, where it is in the ball, else the image.

    The radius of an image shrinks while its iterate is adversarial and grows while it is not; at
    first it is the distance to the boundary that the margin's gradient predicts. A final bisection
    between image and best iterate, which the paper does not have, finds the boundary itself.
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
        # Beyond the prediction where it is reached: on a linear model it is the boundary itself.
        predicted = torch.maximum(predicted, away * (1 + _CHANGE[1]))
        ahead = torch.where(nearest.isfinite(), radius * (1 + change), predicted)
        radius = torch.where(beyond, torch.minimum(radius * (1 - change), nearest), ahead)
        radius = torch.minimum(radius, widest)
        forward = _annealed(_LENGTH, step / steps) * pgd.normalize_l2(gradient)
        moved = norm(radius.view(-1, 1, 1, 1)).project(moved + forward, x).clamp_(0, 1)
    if len(rows := nearest.isfinite().nonzero().squeeze(1)):
        best[rows] = _nearest_between(surrogate, batch.take(rows), best[rows])
    inside = distance(best, x) <= options.threat.eps
    return torch.where(inside.view(-1, 1, 1, 1), best, x)


def _nearest_between(surrogate: Surrogate, batch: Batch, moved: Tensor) -> Tensor:
    """Return the nearest points that still break the exact model, by bisection toward the image."""
    near = torch.zeros(len(batch), 1, 1, 1, device=moved.device)
    far = torch.ones_like(near)
    for _ in range(_HALVINGS):
        surrogate.on_step()
        middle = (near + far) / 2
        between = torch.lerp(batch.x, moved, middle)
        beyond = surrogate.breaks_exact_model(batch, between).view(-1, 1, 1, 1)
        near, far = torch.where(beyond, near, middle), torch.where(beyond, middle, far)
    return torch.lerp(batch.x, moved, far)


def _annealed(ends: tuple[float, float], share: float) -> float:
    first, last = ends
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
