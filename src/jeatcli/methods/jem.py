"""JEM: CE(x) + lambda [E(x) - E(x_K)] (Grathwohl et al. 2020)."""

from dataclasses import dataclass

from torch import Tensor

from ..core.jeat import LangevinNegatives, Loss
from ..core.models.classifier import Classifier
from ..core.options import input_noise
from ..core.rng import BatchRng


@dataclass
class Jem(LangevinNegatives):
    """CE(x) + lambda [E(x) - E(x_K)], the joint likelihood by a persistent chain."""

    input_noise: float = input_noise()

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        x = x + self.input_noise * rng.normal(x)
        return self.likelihood(model, x, y, self.negatives(model, x, rng))
