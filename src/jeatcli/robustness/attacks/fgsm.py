"""One full step from the image itself (Goodfellow et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...core import objectives, pgd
from .batch import Batch, Plan
from .surrogate import Search


def unfit(classes: int, targeted: bool, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Refuse the divergence from the image's own prediction, which is least at the image."""
    if options["objective"] == "kl" and not targeted:
        what = "attack `fgsm` steps from the image itself, where the gradient of `kl` is zero"
        return what, "use `--attack pgd --steps 1`, which starts beside it, or another objective"
    return None


def perturb(search: Search, batch: Batch, plan: Plan, *, objective: str = "ce") -> Tensor:
    """Return the images moved by eps along the gradient's direction, in the norm of the threat."""
    ball = pgd.ball(plan.threat)
    value = objectives.objective(objective, search, batch.x, batch.y, batch.target)
    search.backward += len(batch)
    return pgd.ascend(value, batch.x, ball, steps=1, step_size=plan.threat.eps)
