"""DAT: CE(x^) + BCE of -E(x) against -E(x-), x- by ascent of f(x)[y] (Yin et al. 2026)."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.profiler import record_function

from ..core import energy, pgd
from ..core.class_gaussians import STARTS, start_at
from ..core.curriculum import Curriculum
from ..core.energy import Logits
from ..core.jeat import AdversarialExamples, Loss, MethodContext, Metrics
from ..core.models.classifier import Classifier, evaluating, frozen
from ..core.options import OutlierOptions, option
from ..core.rng import BatchRng
from ..runtime.distributed import current

_option = partial(option, low=0)


@dataclass
class Dat(OutlierOptions, AdversarialExamples):
    """Adversarial training, then with it real images against negatives, batch statistics fixed."""

    sampling = ("ascent", "joint")
    kept = ("counts", "auc")

    first_stage: int = _option(0, "Batches of adversarial training alone, before the energies")
    chain_start: str = _option("gaussian", "Noise that the negatives start from", choices=STARTS)
    chain_steps: int = _option(50, "Most steps of their ascent, which begins with none")
    chain_step_size: float = _option(0.1, "Length of a step in l2, pixels in [0, 1]")
    grow_at: float = _option(0.8, "AUC of f(x)[y] at which the ascent starts to grow", high=1)
    grow_over: int = _option(1000, "Images over which it is measured, for one step more each time")
    lambda_: float = _option(1.0, "Weight of the binary cross-entropy")

    def setup(self, context: MethodContext) -> None:
        super().setup(context)
        self.gaussians, self.outliers = context.statistics.to(context.device), context.outliers
        self.counts = torch.zeros(3, dtype=torch.int64, device="cpu")  # batches; the curriculum's
        self.auc, counts = torch.zeros((), device=context.device), self.counts[1:]
        limits = self.grow_at, self.grow_over, self.chain_steps
        self.curriculum = Curriculum(*limits, counts, self.auc)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        attacked = self.attack(model, x, y, rng)
        first = bool(self.counts[0] < self.first_stage)
        negatives = None if first else self.negatives(model, x, y, rng)
        # Not before: a stop within the attack or the ascent takes back a step that changed nothing.
        self.counts[0] += 1
        if negatives is None:
            return self.with_awp(model, lambda net: self.classify(net(attacked), y))
        images = torch.cat([attacked, x, negatives])

        def objective(net: Logits) -> tuple[Tensor, tuple[Metrics, Tensor, Tensor]]:
            with evaluating(model):
                logits, real, drawn = net(images).chunk(3)
            loss, metrics = self.classify(logits, y)
            above, below = energy.marginal(real), energy.marginal(drawn)
            metrics |= {"energy": above.mean(), "energy_sgld": below.mean()}
            bce = energy.binary_cross_entropy(above, below)
            return loss + self.lambda_ * bce, (metrics, real, drawn)

        loss, (metrics, real, drawn) = self.with_awp(model, objective)
        real, drawn = (-energy.joint(logits.detach(), y) for logits in (real, drawn))
        auc = self.curriculum.update(real, drawn, current().size, current().average_)
        steps = torch.full_like(auc, float(self.curriculum.steps))
        return loss, metrics | {"auc": auc, "chain_steps": steps}

    def negatives(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Tensor:
        """Return images, shaped as x (n, C, H, W), that have climbed f(x)[y] without a ball."""
        start = start_at(self.chain_start, self.gaussians, y, x, rng)
        if self.outliers is not None:
            start = self.outliers[rng.integers(len(self.outliers), len(x))].float() / 255
        with record_function("chain"), frozen(model) as still:
            logit = self.interruptible(lambda images: -energy.joint(still(images), y))
            steps, size = self.curriculum.steps, self.chain_step_size
            return pgd.ascend(logit, start, pgd.L2(math.inf), steps=steps, step_size=size)
