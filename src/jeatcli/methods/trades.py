"""TRADES: CE(x) + beta KL(p(.|x) || p(.|x^)), PGD on KL (Zhang et al. 2019)."""

from dataclasses import dataclass

from torch import Tensor

from ..core import objectives
from ..core.energy import Logits
from ..core.jeat import AdversarialExamples, Loss
from ..core.models.classifier import Classifier
from ..core.options import InnerAttackOptions, attack_objective, option, redeclared
from ..core.rng import BatchRng


@dataclass
class Trades(AdversarialExamples):
    """CE(x) + beta KL(p(.|x) || p(.|x^)); the gradient goes through both predictions."""

    attack_objective: str = attack_objective("kl")
    attack_start: str = redeclared(InnerAttackOptions, "attack_start", "near")
    beta: float = option(6.0, "Weight of the divergence", low=0, high=1e6)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        attacked = self.attack(model, x, y, rng)

        def objective(net: Logits) -> Loss:
            clean, moved = net(x), net(attacked)
            loss, metrics = self.classify(clean, y)
            divergence = objectives.kl(moved, clean).mean()
            return loss + self.beta * divergence, metrics | self.both_accuracies(clean, moved, y)

        return self.with_awp(model, objective)
