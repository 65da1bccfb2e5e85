"""One step: FGSM-RS (Wong et al. 2020), N-FGSM (de Jorge 2022), FGSM-PGI (Jia 2022)."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..core.energy import Logits
from ..core.jeat import AdversarialExamples, Loss, MethodContext
from ..core.models.classifier import Classifier
from ..core.options import InnerAttackOptions, option, redeclared
from ..core.pgd import Ball
from ..core.rng import BatchRng, mix
from ..core.threat import NORMS
from ..errors import UsageProblem

# Of the published FGSM-PGI.
_SMOOTHNESS = 10.0


@dataclass
class Fast(AdversarialExamples):
    """CE(x^), x^ one step from a random point (rs), noise beyond the ball (n) or a prior (pgi)."""

    per_rank = ("prior",)
    own = ("attack_steps",)

    attack_steps: int = redeclared(InnerAttackOptions, "attack_steps", 1)
    variant: str = option(
        "n",
        "Start: rs in the ball, n within 2 eps and never projected, pgi where the last batch ended",
        choices=("rs", "n", "pgi"),
    )
    smoothness: float = option(
        _SMOOTHNESS, "Weight of the mean of (f(x^) - f(start))^2 (pgi)", low=0, high=1e6
    )

    def __post_init__(self) -> None:
        self._check()
        if self.attack_step_size is None and self.variant != "rs":
            self.attack_step_size = self.eps
        super().__post_init__()
        self.wide: Ball = NORMS.load(self.norm)(2 * self.eps)
        if self.variant == "n":
            self.room = NORMS.load(self.norm)(math.inf)

    def _check(self) -> None:
        """Refuse what a variant would pass over, or what would carry it far out of its ball."""
        named = f"variant `{self.variant}`"
        if self.variant != "rs" and self.attack_start != "random":
            raise UsageProblem(
                f"{named} has a start of its own, not `attack_start={self.attack_start}`",
                "give `-O attack_start=random`, or choose `-O variant=rs`",
            )
        if self.variant != "pgi" and self.smoothness not in (0, _SMOOTHNESS):
            raise UsageProblem(
                f"{named} has no smoothness term for `smoothness={self.smoothness:g}`",
                "give `-O smoothness=0`, or choose `-O variant=pgi`",
            )
        if self.variant == "n" and self.attack_steps > 1:
            raise UsageProblem(
                f"{named} takes one step, not {self.attack_steps:,}: it projects none to the ball",
                "give `--attack-steps 1`, or choose `-O variant=rs`",
            )

    def setup(self, context: MethodContext) -> None:
        super().setup(context)
        grey = context.images[: context.batch].float().fill_(0.5)
        rng = BatchRng(mix(context.seed, 1), context.device)
        self.prior = self.ball.on_sphere(grey, rng) - grey

    def start(self, x: Tensor, rng: BatchRng) -> Tensor:
        if self.variant == "pgi":
            return (x + self.prior[: len(x)]).clamp(0, 1)
        return self.wide.start(x, rng) if self.variant == "n" else super().start(x, rng)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        guided = self.variant == "pgi"
        before = self.start(x, rng) if guided else x
        attacked = self.attack(model, x, y, rng)
        if guided:
            self.prior[: len(x)] = attacked - x

        def objective(net: Logits) -> Loss:
            logits = net(attacked)
            loss, metrics = self.classify(logits, y)
            if guided:
                loss = loss + self.smoothness * F.mse_loss(logits, net(before))
            return loss, metrics

        return self.with_awp(model, objective)

    def state(self) -> dict[str, Tensor]:
        return {"prior": self.prior} if self.variant == "pgi" else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        if self.variant == "pgi":
            self.prior.copy_(state["prior"])
