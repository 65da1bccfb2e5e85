"""One full step from the image itself (Goodfellow et al. 2015)."""

from __future__ import annotations

from torch import Tensor

from .. import pgd
from ..models import Classifier
from ._base import Batch, Plan


def perturb(model: Classifier, batch: Batch, plan: Plan) -> Tensor:
    """Return the images moved by eps along the gradient's direction, in the norm of the threat."""
    ball = pgd.ball(plan.threat)
    value = batch.value(plan, model)
    return pgd.ascend(value, batch.x, ball, steps=1, step_size=plan.threat.eps)
