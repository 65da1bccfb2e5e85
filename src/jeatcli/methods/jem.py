"""JEM: CE(x) + lambda [E(x) - E(x_K)] (Grathwohl et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..core.jeat import LangevinNegatives, Loss
from ..core.models.classifier import Classifier
from ..core.rng import BatchRng
from ..settings import setting


@dataclass
class Jem(LangevinNegatives):
    """CE(x) + lambda [E(x) - E(x_K)], the joint likelihood by a persistent chain."""

    # The published 0.03 of [-1, 1].
    input_noise: float = setting(
        0.015,
        "Standard deviation of the noise on training images, pixels in [0, 1]",
        section="",
        low=0,
        high=1e3,
    )

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        x = x + self.input_noise * rng.normal(x)
        return self.likelihood(model, x, y, self.negatives(model, x, rng))
