"""APGD on the difference of logits ratio, 100 steps (Croce and Hein 2020a)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .. import pgd
from ._apgd import Ascent, from_starts
from ._base import Batch, Plan
from ._search import Search

LEAST_CLASSES = 3


def unfit(classes: int, targeted: bool, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Refuse a class to reach among fewer than four: the targeted ratio needs as many."""
    if targeted and classes < 4:
        what = f"attack `apgd-dlr` needs 4 classes to reach one of them; there are {classes}"
        return what, "use `--attack apgd-ce`"
    return None


def loss(logits: Tensor, rows: Batch) -> Tensor:
    """Return the ratio, which does not change when all logits are scaled."""
    if rows.target is None:
        return pgd.dlr(logits, rows.y)
    return pgd.targeted_dlr(logits, rows.y, rows.target)


def perturb(
    search: Search, batch: Batch, plan: Plan, *, steps: int = 100, restarts: int = 1, draws: int = 1
) -> Tensor:
    """Return adversarial images where APGD finds any."""
    ascent = Ascent(search, loss, pgd.ball(plan.threat), steps, draws)
    return from_starts(ascent, batch, plan, restarts)
