"""JEM++: JEM with a proximal chain from class Gaussians, without noise (Yang and Ji 2021)."""

from dataclasses import dataclass, replace

from torch import Tensor

from ..core.jeat import LangevinNegatives, Loss
from ..core.models.classifier import Classifier
from ..core.options import ChainOptions, input_noise, option, redeclared
from ..core.rng import BatchRng


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
    inner_steps: int = option(5, "Steps of the chain per pass through the network", low=1, high=1e6)
    input_noise: float = input_noise()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chain = replace(self.chain, step_size=self.inner_steps * self.sgld_step_size)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        x = x + self.input_noise * rng.normal(x)
        return self.likelihood(model, x, y, self.negatives(model, x, rng))
