"""SADA-JEM: JEM at adaptively worst weights, x+ without augmentation (Yang et al. 2023)."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.profiler import record_function

from ..core.jeat import LangevinNegatives, Loss, MethodContext
from ..core.models.classifier import Classifier
from ..core.options import ChainOptions, option, redeclared
from ..core.rng import BatchRng
from ..core.worst_weights import adaptive, at_worst_weights


@dataclass
class SadaJem(LangevinNegatives):
    """CE(x) + lambda [E(x+) - E(x_K)] at w + v, x+ training images as they are."""

    own = ("chain_start",)

    sgld_steps: int = redeclared(ChainOptions, "sgld_steps", 5)
    # The published 1 of [-1, 1].
    sgld_clip: float = redeclared(ChainOptions, "sgld_clip", 2.0)
    sgld_noise: float = redeclared(ChainOptions, "sgld_noise", 0.0)
    chain_start: str = redeclared(ChainOptions, "chain_start", "gaussian")
    rho: float = option(
        2.0, "Radius within which weights are worst, adaptive to them", low=0, high=1e3
    )

    def setup(self, context: MethodContext) -> None:
        super().setup(context)
        self.images = context.images

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        plain = self.images[rng.integers(len(self.images), len(x))].float() / 255
        negatives = self.negatives(model, x, rng)
        objective = partial(self.likelihood, x=x, y=y, negatives=negatives, positive=plain)
        with record_function("sharpness"):
            return at_worst_weights(model, objective, adaptive(self.rho))
