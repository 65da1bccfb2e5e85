"""APGD on the difference of logits ratio, 100 steps (Croce and Hein 2020a)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...core import objectives, pgd
from .apgd import Ascent, from_starts
from .batch import Batch, Plan, too_few
from .surrogate import Search


def unfit(classes: int, targeted: bool, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Refuse fewer classes than the ratio compares."""
    return too_few("apgd-dlr", 4 if targeted else 3, classes)


def loss(logits: Tensor, rows: Batch) -> Tensor:
    """Return the ratio, which does not change when all logits are scaled."""
    if rows.target is None:
        return objectives.dlr(logits, rows.y)
    return objectives.targeted_dlr(logits, rows.y, rows.target)


def perturb(
    search: Search, batch: Batch, plan: Plan, *, steps: int = 100, restarts: int = 1, draws: int = 1
) -> Tensor:
    """Return adversarial images where APGD finds any."""
    ascent = Ascent(search, loss, pgd.ball(plan.threat), steps, draws)
    return from_starts(ascent, batch, plan, restarts)
