"""PreJEAT: CE(x^), PGD on E(x,y) (Zhu et al. 2021)."""

from dataclasses import dataclass

from torch import Tensor

from ..core.jeat import AdversarialExamples, Loss
from ..core.models.classifier import Classifier
from ..core.options import attack_objective
from ..core.rng import BatchRng


@dataclass
class PreJeat(AdversarialExamples):
    """CE(x^) on examples that raise the joint energy, the paper's Fig. 2c."""

    attack_objective: str = attack_objective("joint")

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        attacked = self.attack(model, x, y, rng)
        return self.with_awp(model, lambda net: self.classify(net(attacked), y))
