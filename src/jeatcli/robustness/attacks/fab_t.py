"""FAB toward each of the nine likeliest classes (Croce and Hein 2020b, 2020a)."""

from __future__ import annotations

from torch import Tensor

from ...core import energy, objectives
from .batch import Batch, Plan
from .fab_walk import Walk, from_starts
from .surrogate import Search
from .targets import TARGETS, likeliest

ROWS = TARGETS


def boundary(search: Search, batch: Batch, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Linearise f[t] - f[y], with t the class that the row tries.

    If t is the class to reach, it has to be ahead of all others, not of y alone.
    """
    assert batch.toward is not None
    toward = batch.toward

    def lead(logits: Tensor) -> Tensor:
        if batch.target is not None:
            return -objectives.margin(logits, toward)
        return energy.joint(logits, batch.y) - energy.joint(logits, toward)

    value, normal, _ = search.gradient(lead, moved)
    return value, normal


def perturb(
    search: Search, batch: Batch, plan: Plan, *, steps: int = 100, restarts: int = 1
) -> Tensor:
    """Return adversarial images where FAB toward any of the classes finds one in the ball."""
    walk = Walk(search, boundary, plan, steps)
    return from_starts(walk, batch, restarts, likeliest(search, batch))
