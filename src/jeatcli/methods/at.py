"""Adversarial training: CE(x^), PGD on CE (Madry et al. 2018)."""

from dataclasses import dataclass

from torch import Tensor

from ..core.jeat import AdversarialExamples, Loss
from ..core.models.classifier import Classifier
from ..core.rng import BatchRng


@dataclass
class AdversarialTraining(AdversarialExamples):
    """CE(x^), the paper's Fig. 2b."""

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        attacked = self.attack(model, x, y, rng)
        return self.with_awp(model, lambda net: self.classify(net(attacked), y))
