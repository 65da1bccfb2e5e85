"""DAT: CE(x^) + BCE of -E(x) against -E(x-), x- by ascent of f(x)[y] (Yin et al. 2026)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.profiler import record_function

from ..core import energy, pgd
from ..core.class_gaussians import STARTS, start_at
from ..core.energy import Logits
from ..core.jeat import AdversarialExamples, MethodContext, Metrics
from ..core.models.classifier import Classifier, evaluating, frozen
from ..core.rng import BatchRng
from ..runtime.distributed import current
from ..settings import setting

_option = partial(setting, section="", low=0)


@dataclass
class Dat(AdversarialExamples):
    """Adversarial training, then with it real images against negatives, batch statistics fixed."""

    sampling = ("ascent", "joint")
    kept = ("counts", "auc")

    first_stage: int = _option(0, "Batches of adversarial training alone, before the energies")
    chain_start: str = _option("gaussian", "Where the negatives start", choices=STARTS)
    chain_steps: int = _option(50, "Most steps of their ascent, which begins with none")
    chain_step_size: float = _option(0.1, "Length of a step in l2, pixels in [0, 1]")
    grow_at: float = _option(0.8, "AUC of f(x)[y] at which the ascent starts to grow", high=1)
    grow_over: int = _option(1000, "Images over which it is measured, for one step more each time")
    lambda_: float = _option(1.0, "Weight of the binary cross-entropy")

    def setup(self, context: MethodContext) -> None:
        super().setup(context)
        self.gaussians = context.statistics.to(context.device)
        # Batches so far, and since the last measurement; steps of the ascent. They stay on the CPU.
        self.counts = torch.zeros(3, dtype=torch.int64, device="cpu")
        self.auc = torch.zeros((), device=context.device)

    def loss(
        self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng
    ) -> tuple[Tensor, Metrics]:
        self.counts[0] += 1
        attacked = self.attack(model, x, y, rng)
        if self.counts[0] <= self.first_stage:
            return self.harden(model, lambda net: self.classify(net(attacked), y))
        negatives = self.ascend(model, start_at(self.chain_start, self.gaussians, y, x, rng), y)
        images = torch.cat([attacked, x, negatives])

        def objective(net: Logits) -> tuple[Tensor, tuple[Metrics, Tensor, Tensor]]:
            with evaluating(model):
                logits, real, drawn = net(images).chunk(3)
            loss, metrics = self.classify(logits, y)
            bce = energy.binary_cross_entropy(energy.marginal(real), energy.marginal(drawn))
            return loss + self.lambda_ * bce, (metrics, real, drawn)

        loss, (metrics, real, drawn) = self.harden(model, objective)
        above, below = energy.marginal(real), energy.marginal(drawn)
        auc = self.grow(-energy.joint(real.detach(), y), -energy.joint(drawn.detach(), y))
        metrics |= {"energy": above.mean(), "energy_sgld": below.mean(), "auc": auc}
        metrics["chain_steps"] = torch.full_like(auc, float(self.counts[2]))
        return loss, metrics

    def ascend(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """Return where images x (n, C, H, W) end that climb f(x)[y] by as many steps as now."""
        with record_function("chain"), frozen(model) as still:
            logit = self.interruptible(lambda images: -energy.joint(still(images), y))
            steps, size = int(self.counts[2]), self.chain_step_size
            return pgd.ascend(logit, x, pgd.L2(math.inf), steps=steps, step_size=size)

    def grow(self, real: Tensor, drawn: Tensor) -> Tensor:
        """Let the ascent grow if it is due, by f(x)[y] of both, (n,) each; return the AUC."""
        auc = (real[:, None] > drawn).float().mean()
        self.auc += auc
        self.counts[1] += 1
        if self.counts[1] * len(real) * current().size >= self.grow_over:
            mean = current().mean({"auc": self.auc})["auc"] / self.counts[1]
            self.counts[2] += int(mean >= self.grow_at and self.counts[2] < self.chain_steps)
            self.counts[1] = 0
            self.auc.zero_()
        return auc
