"""Projected gradient ascent from random starts (Madry et al. 2018)."""

from __future__ import annotations

from torch import Tensor

from .batch import Batch, Plan
from .projected import ascend_from_starts, usual_step
from .surrogate import Search


def perturb(
    search: Search,
    batch: Batch,
    plan: Plan,
    *,
    objective: str = "ce",
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
) -> Tensor:
    """Return the last iterates of the ascent of the objective, the worst of the restarts."""
    size = usual_step(plan, steps) if step_size is None else step_size
    return ascend_from_starts(search, batch, plan, objective, steps, size, restarts)
