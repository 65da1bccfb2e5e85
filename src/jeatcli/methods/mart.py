"""MART: boosted CE(x^) + beta KL weighted by the clean error (Wang et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core import energy, objectives
from ..core.energy import Logits
from ..core.jeat import AdversarialExamples, Loss
from ..core.models.classifier import Classifier
from ..core.options import InnerAttackOptions, option, redeclared
from ..core.rng import BatchRng


@dataclass
class Mart(AdversarialExamples):
    """BCE(x^) + beta KL(p(.|x) || p(.|x^)) (1 - p(y|x))."""

    attack_start: str = redeclared(InnerAttackOptions, "attack_start", "near")
    beta: float = option(5.0, "Weight of the divergence", low=0, high=1e6)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        attacked = self.attack(model, x, y, rng)

        def objective(net: Logits) -> Loss:
            clean, moved = net(x), net(attacked)
            loss, metrics = self.classify(moved, y)
            label = y[:, None]
            runner_up = energy.class_probabilities(moved).scatter(1, label, 0).amax(1)
            error = 1.0000001 - energy.class_probabilities(clean).gather(1, label).squeeze(1)
            loss = loss - torch.log(1.0001 - runner_up).mean()
            divergence = (objectives.kl(moved, clean) * error).mean()
            return loss + self.beta * divergence, metrics | self.both_accuracies(clean, moved, y)

        return self.with_awp(model, objective)
