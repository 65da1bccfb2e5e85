"""EB-JDAT: CE(x^) + [E(x) - E(x_K)] + [E(x^) - E(x)], PGD on E(x,y) (Jiang et al. 2026)."""

from dataclasses import dataclass

from torch import Tensor

from ..core import energy
from ..core.energy import Logits
from ..core.jeat import AdversarialExamples, LangevinNegatives, Loss
from ..core.models.classifier import Classifier
from ..core.options import ChainOptions, InnerAttackOptions, attack_objective, option, redeclared
from ..core.rng import BatchRng


@dataclass
class EbJdat(AdversarialExamples, LangevinNegatives):
    """CE(x^) + lambda [E(x) - E(x_K)] + ball_weight [E(x^) - E(x)] + clean_weight CE(x)."""

    own = ("chain_start",)

    attack_objective: str = attack_objective("joint")
    attack_steps: int = redeclared(InnerAttackOptions, "attack_steps", 5)
    chain_start: str = redeclared(ChainOptions, "chain_start", "gaussian")
    ball_weight: float = option(
        1.0, "Weight of E(x^) - E(x); 1 in the paper, 0.1 in its code", low=0, high=1e6
    )
    clean_weight: float = option(
        0.0, "Weight of CE(x); 0 in the paper, 1 in its code", low=0, high=1e6
    )

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        attacked = self.attack(model, x, y, rng)
        negatives = self.negatives(model, x, rng)

        def objective(net: Logits) -> Loss:
            clean, moved = net(x), net(attacked)
            loss, metrics = self.classify(moved, y)
            above, raised = energy.marginal(clean), energy.marginal(moved)
            gap, energies = self.energy_loss(above, energy.marginal(net(negatives)))
            loss = loss + gap + self.ball_weight * (raised - above).mean()
            loss = loss + self.clean_weight * self.classify(clean, y)[0]
            return loss, metrics | energies | self.both_accuracies(clean, moved, y)

        return self.with_awp(model, objective)
