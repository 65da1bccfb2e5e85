"""JEM++: JEM with a proximal chain from class Gaussians, without noise (Yang and Ji 2021)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ..core.jeat import LangevinNegatives, Loss
from ..core.models.classifier import Classifier
from ..core.options import ChainOptions, redeclared
from ..core.rng import BatchRng
from ..settings import setting


@dataclass
class JemPlusPlus(LangevinNegatives):
    """CE(x) + lambda [E(x) - E(x_K)], x_K by K passes of N steps each through the first layer.

    The first layer is linear, so the gradient through it is the same at all N: they are one step N
    times as long, and are taken as one.
    """

    own = ("chain_start",)

    sgld_steps: int = redeclared(ChainOptions, "sgld_steps", 10)
    # The published 0.2 and 1 of [-1, 1].
    sgld_step_size: float = redeclared(ChainOptions, "sgld_step_size", 0.05)
    sgld_clip: float = redeclared(ChainOptions, "sgld_clip", 2.0)
    sgld_noise: float = redeclared(ChainOptions, "sgld_noise", 0.0)
    chain_start: str = redeclared(ChainOptions, "chain_start", "gaussian")
    inner_steps: int = setting(
        5, "Steps of the chain for a pass through the network", section="", low=1, high=1e6
    )
    # The published 0.03 of [-1, 1].
    input_noise: float = setting(
        0.015,
        "Standard deviation of the noise on training images, pixels in [0, 1]",
        section="",
        low=0,
        high=1e3,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chain = replace(self.chain, step_size=self.inner_steps * self.sgld_step_size)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        x = x + self.input_noise * rng.normal(x)
        return self.likelihood(model, x, y, self.negatives(model, x, rng))
