"""What is refused before an attack runs, and what may not come out of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core import objectives, pgd
from ..core.threat import Threat
from ..errors import JeatError, UsageProblem
from .attacks.attack import Attack
from .attacks.batch import Batch


def refuse_unfit(attacks: Sequence[Attack], classes: int, targeted: bool) -> None:
    """Refuse attacks that need more classes than there are, or cannot do what is asked.

    Raises:
        UsageProblem: Naming one that can.
    """
    for attack in attacks:
        objectives.check_classes(attack.options.get("objective", "ce"), classes, targeted)
        if attack.unfit and (reason := attack.unfit(classes, targeted, attack.options)):
            raise UsageProblem(*reason)


def check(name: str, batch: Batch, moved: Tensor, threat: Threat) -> None:
    """Check that an attack kept to its ball and to [0, 1].

    Raises:
        JeatError: If it did not; the result would be worthless.
    """
    distance = pgd.ball(threat).distance(moved, batch.x).max().item()
    inside = bool(((moved >= 0) & (moved <= 1)).all())
    # False for NaN, too. The slack is float32's rounding on the way to the ball and back.
    if not (distance <= threat.eps + 1e-6 * max(1.0, threat.eps) and inside):
        raise JeatError(
            f"attack `{name}` left its ball: distance {distance:g} for {threat}",
            "this is a fault of jeat; please report it",
        )


def without_nan(moved: Tensor, x: Tensor) -> Tensor:
    """Return x where an attack ended in NaN, as a gradient of NaN makes it."""
    return torch.where(moved.isnan().flatten(1).any(1).view(-1, 1, 1, 1), x, moved)
