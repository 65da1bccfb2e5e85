"""Projected gradient ascent from random starts, on any objective."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core import energy, objectives, pgd
from .batch import Batch, Plan
from .surrogate import Search


def ascend_from_starts(
    search: Search,
    batch: Batch,
    plan: Plan,
    objective: str,
    steps: int,
    step_size: float,
    restarts: int,
) -> Tensor:
    """Return each image's adversarial example: a breaking one if any restart found it.

    The last iterate counts, as the field's PGD-N has it. An image that a restart broke, by the
    verdict of the judge, is left out of the later ones; of the others the last iterate of highest
    objective is kept.
    """
    ball = pgd.ball(plan.threat)
    best = batch.x.clone()
    highest = batch.x.new_full((len(best),), -torch.inf)
    left = torch.arange(len(best), device=best.device)
    for restart in range(restarts):
        part = batch.take(left)
        start = ball.start(part.x, part.rng(plan.seed, restart))
        loss = objectives.loss(objective, search, part.x, part.y, part.target)

        def value(moved: Tensor, loss: energy.PerImage = loss) -> Tensor:
            return loss(search(moved))

        moved = pgd.ascend(value, part.x, ball, steps=steps, step_size=step_size, start=start)
        search.backward += steps * len(part)
        with torch.no_grad():
            logits = search(moved)
            if search.transfers:
                broken = search.judged(part, moved)
            else:
                broken = search.broken(part, moved, logits)
            values = torch.where(broken, torch.inf, loss(logits))
        best[left], highest[left] = pgd.better(moved, values, best[left], highest[left])
        left = left[~broken]
        if not len(left):
            break
    return best


def usual_step(plan: Plan, steps: int) -> float:
    """Return 2.5 eps / steps (Madry et al. 2018), in the [0, 1] pixel scale."""
    return 2.5 * plan.threat.eps / steps
