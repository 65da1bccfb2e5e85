"""Projected gradient ascent from random starts (Madry et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import pgd
from ..models import Classifier
from ._base import Batch, Plan


def perturb(model: Classifier, batch: Batch, plan: Plan) -> Tensor:
    """Return each image's adversarial example: a breaking one if any restart found it.

    An image that a restart broke is left out of the later ones; of the others the last
    iterate of highest objective is kept.
    """
    ball = pgd.ball(plan.threat)
    best = batch.x.clone()
    highest = batch.x.new_full((len(best),), -torch.inf)
    left = torch.arange(len(best), device=best.device)
    for restart in range(plan.restarts):
        part = batch.take(left)
        start = ball.start(part.x, part.rng(plan.seed, restart))
        value = part.value(plan, model)
        moved = pgd.ascend(
            value, part.x, ball, steps=plan.steps, step_size=plan.resolved_step_size, start=start
        )
        with torch.no_grad():
            broken = part.broken(model, moved)
            values = torch.where(broken, torch.inf, value(moved))
        best[left], highest[left] = pgd.better(moved, values, best[left], highest[left])
        left = left[~broken]
        if not len(left):
            break
    return best
