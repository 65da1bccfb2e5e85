"""Noise injection, "blind adversarial training": CE(x + n) (Zhu et al. 2021)."""

from dataclasses import dataclass

from torch import Tensor

from ..core.jeat import Loss, Method
from ..core.models.classifier import Classifier
from ..core.options import option
from ..core.rng import BatchRng


@dataclass
class Noise(Method):
    """CE(x + n), with noise larger than an attack's radius, for a random direction is a poor one.

    The noisy image is not clipped: a clip would bias the noise at black and white pixels.
    """

    sampling = ("sgld", "ce")
    accuracy = "noisy"

    noise: str = option("gaussian", "Distribution of the noise", choices=("gaussian", "uniform"))
    sigma: float = option(
        0.25, "Standard deviation of a pixel's noise, pixels in [0, 1]", low=0, high=1e3
    )

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        spread = rng.normal(x) if self.noise == "gaussian" else 12**0.5 * (rng.uniform(x) - 0.5)
        return self.classify(model(x + self.sigma * spread), y)
