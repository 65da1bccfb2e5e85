"""Noise injection, "blind adversarial training": CE(x + n) (Zhu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..core.jeat import Method, Metrics, classify, require
from ..core.models.classifier import Classifier
from ..core.rng import BatchRng


@dataclass
class Noise(Method):
    """CE(x + n), with noise larger than an attack's radius, for a random direction is a poor one.

    The noisy image is not clipped: a clip would bias the noise at black and white pixels.

    Args:
        noise: `gaussian` or `uniform`.
        sigma: Standard deviation of a pixel's noise, in the [0, 1] pixel scale.
    """

    sampling = ("sgld", "ce")

    noise: Literal["gaussian", "uniform"] = "gaussian"
    sigma: float = 0.25

    def __post_init__(self) -> None:
        require(self.sigma >= 0, "sigma", "at least 0", self.sigma)

    def loss(
        self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng
    ) -> tuple[Tensor, Metrics]:
        spread = rng.normal(x) if self.noise == "gaussian" else 12**0.5 * (rng.uniform(x) - 0.5)
        return classify(model(x + self.sigma * spread), y)
