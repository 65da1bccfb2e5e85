"""The pieces of which the methods are made: the inner attack, the chain, the energy loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.profiler import record_function

from ..errors import UsageProblem
from . import energy, objectives, pgd
from .class_gaussians import ClassGaussians
from .models.classifier import Classifier, frozen
from .rng import BatchRng, mix
from .sgld import Chain, ReplayBuffer, langevin, uniform_start
from .threat import Threat

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class MethodContext:
    """What a method may know of the run before it starts.

    Args:
        image: Channels, height, width.
        statistics: The training images', for chains that start there.
        device: Where the images are.
        seed: The run's.
    """

    image: tuple[int, int, int]
    statistics: ClassGaussians
    device: torch.device
    seed: int


@dataclass
class Method(ABC):
    """An objective: the fields are its options, `loss` is what training lowers.

    Attributes:
        per_rank: The tensors of `state` that differ from process to process, where several train;
            all others are the same everywhere.
        sampling: By which sampler and on which objective images are drawn if nothing is said;
            docs/sampling.md has the reasons, and what was measured.
    """

    per_rank: ClassVar[tuple[str, ...]] = ()
    sampling: ClassVar[tuple[str, str]] = ("pgd", "ce")

    def setup(self, context: MethodContext) -> None:
        """Prepare what the method keeps between steps."""
        return None

    @abstractmethod
    def loss(
        self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng
    ) -> tuple[Tensor, Metrics]:
        """Return the loss of a batch and what to log of it, tensors of no dimension each.

        Args:
            model: In train mode.
            x: Images (n, C, H, W) in [0, 1].
            y: Labels (n,).
            rng: Source of this step's randomness.
        """

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that an exact resume needs."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        return None


@dataclass
class AdversarialExamples(Method):
    """A method with an inner attack on each training image.

    Args:
        norm, eps: The threat model, in the [0, 1] pixel scale.
        attack_objective: What the attack raises: `ce` (Madry et al. 2018) or `joint` (Zhu et
            al. 2021), E(x, y).
        attack_steps: 1 is the single-step form with a random start.
        attack_step_size: In the [0, 1] pixel scale; by default 2.5 eps / steps, 1.25 eps at most
            (Wong et al. 2020).
        attack_start: `random` in the ball, or at the `clean` image.
        attack_mode: Of batch normalisation during the attack: `eval` (TRADES) or `train` (Rice
            et al. 2020).
    """

    norm: Literal["linf", "l2"] = "linf"
    eps: float = 8 / 255
    attack_objective: Literal["ce", "joint", "marginal", "margin", "dlr", "kl"] = "ce"
    attack_steps: int = 10
    attack_step_size: float | None = None
    attack_start: Literal["random", "clean"] = "random"
    attack_mode: Literal["eval", "train"] = "eval"

    def __post_init__(self) -> None:
        self.ball = pgd.ball(Threat(self.norm, self.eps))
        require(self.attack_steps >= 1, "attack_steps", "at least 1", self.attack_steps)
        if self.attack_step_size is None:
            size = min(2.5 * self.eps / self.attack_steps, 1.25 * self.eps)
            self.attack_step_size = size
        # At eps 0 the customary step is 0 as well.
        holds = self.attack_step_size > 0 or self.attack_step_size == self.eps == 0
        require(holds, "attack_step_size", "above 0", self.attack_step_size)

    def setup(self, context: MethodContext) -> None:
        super().setup(context)
        objectives.check_classes(self.attack_objective, len(context.statistics.mean))

    def attack(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Tensor:
        """Return the adversarial examples of a batch."""
        assert self.attack_step_size is not None
        start = self.ball.start(x, rng) if self.attack_start == "random" else None
        train = self.attack_mode == "train"
        with record_function("attack"), frozen(model, train) as still:
            return pgd.ascend(
                objectives.objective(self.attack_objective, still, x, y),
                x,
                self.ball,
                steps=self.attack_steps,
                step_size=self.attack_step_size,
                start=start,
            )


@dataclass
class LangevinNegatives(Method):
    """A method with negatives from a persistent chain on E(x).

    Args:
        sgld_steps: Steps a batch.
        sgld_step_size, sgld_noise: In the [0, 1] pixel scale; JEM's 1 and 0.01 of [-1, 1] are
            0.25 and 0.005 here.
        sgld_clip: Largest absolute component of the energy's gradient; 0 for no limit.
        buffer_size: Images in the replay buffer.
        reinit: Probability that a chain starts anew.
        chain_start: Where: `uniform` noise (JEM) or a `gaussian` a class (JEM++).
        lambda_: Weight of E(x+) - E(x_K).
        energy_l2: Weight of the mean square of both energies.
    """

    per_rank = ("buffer",)
    sampling = ("sgld", "joint")

    sgld_steps: int = 20
    sgld_step_size: float = 0.25
    sgld_noise: float = 0.005
    sgld_clip: float = 1.0
    buffer_size: int = 10_000
    reinit: float = 0.05
    chain_start: Literal["uniform", "gaussian"] = "uniform"
    lambda_: float = 1.0
    energy_l2: float = 0.01

    def __post_init__(self) -> None:
        require(self.sgld_steps >= 0, "sgld_steps", "at least 0", self.sgld_steps)
        require(self.buffer_size >= 1, "buffer_size", "at least 1", self.buffer_size)
        require(0 <= self.reinit <= 1, "reinit", "between 0 and 1", self.reinit)
        for name in ("sgld_step_size", "sgld_noise", "sgld_clip", "lambda_", "energy_l2"):
            value = getattr(self, name)
            require(value >= 0, name.rstrip("_"), "at least 0", value)
        self.chain = Chain(self.sgld_steps, self.sgld_step_size, self.sgld_noise, self.sgld_clip)

    def setup(self, context: MethodContext) -> None:
        self.statistics = context.statistics.to(context.device)
        rng = BatchRng(mix(context.seed, 1), context.device)
        like = torch.empty(self.buffer_size, *context.image, device=context.device)
        self.buffer = ReplayBuffer(self.initial_states(like, rng))

    def initial_states(self, like: Tensor, rng: BatchRng) -> Tensor:
        """Return new starting points of chains, shaped as `like`."""
        if self.chain_start == "uniform":
            return uniform_start(like, rng)
        labels = rng.integers(len(self.statistics.mean), len(like))
        return self.statistics.draw(labels, like, rng)

    def negatives(self, model: Classifier, x: Tensor, rng: BatchRng) -> Tensor:
        """Run one chain for each image of x, from the buffer, and put its end back there."""
        start, places = self.buffer.draw(self.initial_states(x, rng), self.reinit, rng)
        with record_function("chain"), frozen(model) as still:
            end = langevin(lambda images: energy.marginal(still(images)), start, self.chain, rng)
        self.buffer.put(end, places)
        return end

    def energy_loss(self, above: Tensor, below: Tensor) -> tuple[Tensor, Metrics]:
        """Return lambda [E(x+) - E(x_K)] + regularisation, from the energies (n,) of both."""
        gap = above.mean() - below.mean()
        square = above.square().mean() + below.square().mean()
        metrics = {"energy": above.mean(), "energy_sgld": below.mean(), "energy_gap": gap}
        return self.lambda_ * gap + self.energy_l2 * square, metrics

    def state(self) -> dict[str, Tensor]:
        return {"buffer": self.buffer.images}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.buffer.images.copy_(state["buffer"])


def classify(logits: Tensor, y: Tensor) -> tuple[Tensor, Metrics]:
    """Return the mean cross-entropy, and the accuracy to log."""
    loss = energy.cross_entropy(logits, y).mean()
    return loss, {"cross_entropy": loss, "accuracy": (logits.argmax(1) == y).float().mean()}


def require(holds: bool, name: str, what: str, value: object) -> None:
    """Refuse an option's value.

    Raises:
        UsageProblem: If it does not hold.
    """
    if not holds:
        raise UsageProblem(f"option `{name}` must be {what}, not {value}")


@dataclass
class Jeat(AdversarialExamples, LangevinNegatives):
    """Joint energy adversarial training; at lambda = 1 the loss is E(x^, y) - E(x_K).

    Args:
        positive: The image whose marginal energy is lowered: the `adversarial` example x^ or the
            `clean` image x.
    """

    attack_objective: Literal["ce", "joint", "marginal", "margin", "dlr", "kl"] = "joint"
    positive: Literal["adversarial", "clean"] = "adversarial"

    def __post_init__(self) -> None:
        AdversarialExamples.__post_init__(self)
        LangevinNegatives.__post_init__(self)

    def loss(
        self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng
    ) -> tuple[Tensor, Metrics]:
        attacked = self.attack(model, x, y, rng)
        negatives = self.negatives(model, x, rng)
        logits = model(attacked)
        loss, metrics = classify(logits, y)
        positive = logits if self.positive == "adversarial" else model(x)
        negative_loss, energies = self.energy_loss(
            energy.marginal(positive), energy.marginal(model(negatives))
        )
        return loss + negative_loss, metrics | energies
