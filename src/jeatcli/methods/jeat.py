"""JEAT: CE(x^) + lambda [E(x^) - E(x_K)], PGD on E(x, y) (Zhu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..core import energy
from ..core.jeat import Adversarial, Chained, Metrics, classify
from ..core.models.classifier import Classifier
from ..core.rng import BatchRng


@dataclass
class Jeat(Adversarial, Chained):
    """Joint energy adversarial training; at lambda = 1 the loss is E(x^, y) - E(x_K).

    Args:
        positive: The image whose marginal energy is lowered: the `adversarial` example x^ or the
            `clean` image x.
    """

    attack_objective: Literal["ce", "joint", "marginal", "margin", "dlr", "kl"] = "joint"
    positive: Literal["adversarial", "clean"] = "adversarial"

    def __post_init__(self) -> None:
        Adversarial.__post_init__(self)
        Chained.__post_init__(self)

    def loss(
        self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng
    ) -> tuple[Tensor, Metrics]:
        attacked = self.attack(model, x, y, rng)
        negatives = self.negatives(model, x, rng)
        logits = model(attacked)
        loss, metrics = classify(logits, y)
        positive = logits if self.positive == "adversarial" else model(x)
        contrast, energies = self.contrast(
            energy.marginal(positive), energy.marginal(model(negatives))
        )
        return loss + contrast, metrics | energies
