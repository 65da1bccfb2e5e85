"""WEAT: TRADES or AT + KL, each image weighted by 1 / log(1 + exp |E(x)|) (Mirza et al. 2024)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..core import energy, objectives
from ..core.energy import Logits
from ..core.jeat import AdversarialExamples, Loss
from ..core.models.classifier import Classifier
from ..core.options import InnerAttackOptions, attack_objective, option, redeclared
from ..core.rng import BatchRng


@dataclass
class Weat(AdversarialExamples):
    """mean of w(x) [CE + beta KL(p(.|x) || p(.|x^))], w(x) = 1 / log(1 + exp |E(x)|)."""

    attack_objective: str = attack_objective("kl")
    attack_start: str = redeclared(InnerAttackOptions, "attack_start", "near")
    classified: str = option(
        "clean",
        "Image whose cross-entropy is minimised: clean (WEAT_nat) or adversarial (WEAT_adv)",
        choices=("clean", "adversarial"),
    )
    beta: float = option(
        6.0, "Weight of the divergence; published are 6, and 7 for WEAT_adv", low=0
    )

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        attacked = self.attack(model, x, y, rng)

        def objective(net: Logits) -> Loss:
            clean, moved = net(x), net(attacked)
            weight = 1 / F.softplus(energy.marginal(clean.detach()).abs())
            classified = clean if self.classified == "clean" else moved
            loss = energy.cross_entropy(classified, y, self.label_smoothing) * weight
            divergence = objectives.kl(moved, clean) * weight
            metrics = {"cross_entropy": loss.mean(), "weight": weight.mean()}
            metrics |= self.both_accuracies(clean, moved, y)
            return loss.mean() + self.beta * divergence.mean(), metrics

        return self.with_awp(model, objective)
