"""Plain classification: CE(x)."""

from dataclasses import dataclass

from torch import Tensor

from ..core.jeat import Loss, Method
from ..core.models.classifier import Classifier
from ..core.rng import BatchRng


@dataclass
class Standard(Method):
    """CE(x), the paper's Fig. 2a."""

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        return self.classify(model(x), y)
