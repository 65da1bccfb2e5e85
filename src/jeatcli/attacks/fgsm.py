"""One full step from the image itself (Goodfellow et al. 2015)."""

from __future__ import annotations

from torch import Tensor

from .. import pgd
from ._base import Batch, Plan
from ._search import Search


def perturb(search: Search, batch: Batch, plan: Plan, *, objective: str = "ce") -> Tensor:
    """Return the images moved by eps along the gradient's direction, in the norm of the threat."""
    ball = pgd.ball(plan.threat)
    value = pgd.objective(objective, search, batch.x, batch.y, batch.target)
    search.backward += len(batch)
    return pgd.ascend(value, batch.x, ball, steps=1, step_size=plan.threat.eps)
