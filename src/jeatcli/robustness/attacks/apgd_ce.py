"""APGD on the cross-entropy, 100 steps (Croce and Hein 2020a)."""

from __future__ import annotations

from torch import Tensor

from ...core import energy, pgd
from .apgd import Ascent, from_starts
from .batch import Batch, Plan
from .surrogate import Search


def loss(logits: Tensor, rows: Batch) -> Tensor:
    """Return CE(x, y), or with a target t minus CE(x, t)."""
    if rows.target is None:
        return energy.cross_entropy(logits, rows.y)
    return -energy.cross_entropy(logits, rows.target)


def perturb(
    search: Search, batch: Batch, plan: Plan, *, steps: int = 100, restarts: int = 1, draws: int = 1
) -> Tensor:
    """Return adversarial images where APGD finds any."""
    ascent = Ascent(search, loss, pgd.ball(plan.threat), steps, draws)
    return from_starts(ascent, batch, plan, restarts)
