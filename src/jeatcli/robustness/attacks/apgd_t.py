"""APGD on the targeted ratio, for each of the nine likeliest classes (Croce and Hein 2020a)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...core import objectives, pgd
from .apgd import Ascent, from_starts
from .batch import Batch, Plan, too_few
from .surrogate import Search
from .targets import TARGETS, likeliest

ROWS = TARGETS


def unfit(classes: int, targeted: bool, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Refuse fewer classes than the ratio compares."""
    return too_few("apgd-t", 4, classes)


def loss(logits: Tensor, rows: Batch) -> Tensor:
    """Return the ratio toward the class that the row tries."""
    assert rows.toward is not None
    return objectives.targeted_dlr(logits, rows.y, rows.toward)


def perturb(
    search: Search, batch: Batch, plan: Plan, *, steps: int = 100, restarts: int = 1
) -> Tensor:
    """Return adversarial images where APGD toward any of the classes finds one."""
    ascent = Ascent(search, loss, pgd.ball(plan.threat), steps)
    return from_starts(ascent, batch, plan, restarts, likeliest(search, batch))
