"""JEM: CE(x) + lambda [E(x) - E(x_K)] (Grathwohl et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..core import energy
from ..core.jeat import LangevinNegatives, Metrics, classify, require
from ..core.models.classifier import Classifier
from ..core.rng import BatchRng


@dataclass
class Jem(LangevinNegatives):
    """CE(x) + lambda [E(x) - E(x_K)], the joint likelihood by a persistent chain.

    Args:
        input_noise: Standard deviation of the noise on training images, in the [0, 1] pixel
            scale; the published 0.03 of [-1, 1] is 0.015 here.
    """

    input_noise: float = 0.015

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.input_noise >= 0, "input_noise", "at least 0", self.input_noise)

    def loss(
        self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng
    ) -> tuple[Tensor, Metrics]:
        x = x + self.input_noise * rng.normal(x)
        negatives = self.negatives(model, x, rng)
        logits = model(x)
        loss, metrics = classify(logits, y)
        negative_loss, energies = self.energy_loss(
            energy.marginal(logits), energy.marginal(model(negatives))
        )
        return loss + negative_loss, metrics | energies
