"""Projected gradient ascent: FGSM, PGD, and PGD on the margin (CW)."""

from functools import partial

import torch
from torch import Tensor

from ...core import objectives
from ...core import pgd as core
from ...core.energy import PerImage
from .batch import AttackOptions, Batch
from .surrogate import Surrogate


def fgsm(surrogate: Surrogate, batch: Batch, options: AttackOptions, *, objective: str) -> Tensor:
    """Return the images moved by eps along the gradient's direction, in the norm of the threat."""
    ball = core.ball(options.threat)
    value = objectives.objective(objective, surrogate, batch.x, batch.y, batch.target)
    surrogate.backward += len(batch)
    return core.ascend(value, batch.x, ball, steps=1, step_size=options.threat.eps)


def pgd(
    surrogate: Surrogate,
    batch: Batch,
    options: AttackOptions,
    *,
    objective: str,
    steps: int,
    step_size: float,
    restarts: int,
) -> Tensor:
    """Return each image's adversarial example: a breaking one if any restart found it.

    The last iterate counts, as in the field's PGD-N. An image that a restart broke, in the eyes of
    the victim, is left out of the later ones; of the others the last iterate of highest objective
    is kept.
    """
    ball = core.ball(options.threat)
    best = batch.x.clone()
    highest = batch.x.new_full((len(best),), -torch.inf)
    left = torch.arange(len(best), device=best.device)
    for restart in range(restarts):
        part = batch.take(left)
        start = ball.start(part.x, part.rng(options.seed, restart))
        loss = objectives.loss(objective, surrogate, part.x, part.y, part.target)

        def value(moved: Tensor, loss: PerImage = loss) -> Tensor:
            surrogate.on_step()
            return loss(surrogate(moved))

        moved = core.ascend(value, part.x, ball, steps=steps, step_size=step_size, start=start)
        surrogate.backward += steps * len(part)
        with torch.no_grad():
            logits = surrogate(moved)
            if surrogate.is_transfer:
                broken = surrogate.breaks_victim(part, moved)
            else:
                broken = surrogate.broken(part, moved, logits)
            values = torch.where(broken, torch.inf, loss(logits))
        best[left], highest[left] = core.better(moved, values, best[left], highest[left])
        left = left[~broken]
        if not len(left):
            break
    return best


cw = partial(pgd, objective="margin")  # the loss of Carlini and Wagner (2017)
