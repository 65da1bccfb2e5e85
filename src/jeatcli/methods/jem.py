"""JEM: CE(x) + lambda [E(x) - E(x_K)] (Grathwohl et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..core import energy
from ..core.jeat import LangevinNegatives, Metrics
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

    def loss(
        self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng
    ) -> tuple[Tensor, Metrics]:
        x = x + self.input_noise * rng.normal(x)
        negatives = self.negatives(model, x, rng)
        logits = model(x)
        loss, metrics = self.classify(logits, y)
        negative_loss, energies = self.energy_loss(
            energy.marginal(logits), energy.marginal(model(negatives))
        )
        return loss + negative_loss, metrics | energies
