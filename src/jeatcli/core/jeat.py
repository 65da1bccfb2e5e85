"""JEAT, and the parts that make up every method: inner attack, chain, energy loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor
from torch.profiler import record_function

from ..errors import UsageProblem
from . import energy, objectives, pgd
from .class_gaussians import ClassGaussians
from .energy import Logits, PerImage
from .models.classifier import Classifier, frozen
from .options import ChainOptions, InnerAttackOptions, LossOptions, attack_objective, option
from .rng import BatchRng, mix
from .sgld import Chain, langevin, replayed
from .threat import Threat
from .worst_weights import at_worst_weights, layerwise

Metrics = dict[str, Tensor]
# The loss of a batch and what to log of it, tensors of no dimension each.
Loss = tuple[Tensor, Metrics]
T = TypeVar("T")
# Standard deviation of the noise of a `near` start (Zhang et al. 2019).
_NEAR = 0.001


@dataclass(frozen=True)
class MethodContext:
    """What a method may know of the run before it starts."""

    images: Tensor  # for training, as they are, uint8 (n, C, H, W), on the training device
    statistics: ClassGaussians  # of these images, where chains may start
    batch: int  # how many of them a step of this process has
    seed: int  # of the run
    outliers: Tensor | None = None  # images of `OutlierOptions.ood`, likewise, if it names some

    @property
    def device(self) -> torch.device:
        """The device of the images."""
        return self.images.device


@dataclass
class Method(LossOptions, ABC):
    """A training objective: its fields are its options, `loss` is minimised.

    Attributes:
        per_rank: The tensors of `state` that differ between processes, where several train.
        kept: The attributes that are tensors and belong to `state`.
        own: The options whose defaults hold for every data set and network.
        sampling: The sampler and the objective by which images are drawn unless others are asked
            for; docs/sampling.md has the reasons, and what was measured.
        accuracy: Which accuracy on the training images `classify` logs: `clean`, `robust` (under
            the inner attack) or `noisy`.
    """

    per_rank: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[tuple[str, ...]] = ()
    own: ClassVar[tuple[str, ...]] = ()
    sampling: ClassVar[tuple[str, str]] = ("pgd", "ce")
    accuracy: ClassVar[str] = "clean"

    # Called before each evaluation of an attack or a chain; what it raises abandons the step.
    on_inner_step = staticmethod(lambda: None)

    def setup(self, context: MethodContext) -> None:
        """Prepare what the method keeps between steps."""
        return None

    def interruptible(self, value: PerImage) -> PerImage:
        """Return what an attack or a chain evaluates, preceded by `on_inner_step`."""

        def evaluate(images: Tensor) -> Tensor:
            self.on_inner_step()
            return value(images)

        return evaluate

    @abstractmethod
    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        """Return the loss of a batch and what to log of it.

        Args:
            model: In train mode.
            x: Images (n, C, H, W) in [0, 1].
            y: Labels (n,).
            rng: Source of this step's randomness.
        """

    def classify(self, logits: Tensor, y: Tensor) -> Loss:
        """Return the mean cross-entropy with labels smoothed, and the accuracy to log."""
        loss = energy.cross_entropy(logits, y, self.label_smoothing).mean()
        accuracy = (logits.argmax(1) == y).float().mean()
        return loss, {"cross_entropy": loss, "accuracy": accuracy}

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that an exact resume needs."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        for name in self.kept:
            getattr(self, name).copy_(state[name])


@dataclass
class AdversarialExamples(InnerAttackOptions, Method):
    """A method with an inner attack on each training image.

    Attributes:
        ball: Of the threat model.
        room: The ball within which the attack stays, the same unless a method says otherwise.
        latest: The last images attacked, and their adversarial examples.
    """

    accuracy = "robust"

    awp: float = option(
        0.0, "Size of the weight perturbation, relative to each layer's norm (AWP)", low=0, high=10
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ball = self.room = pgd.ball(Threat(self.norm, self.eps))
        self.latest: tuple[Tensor, Tensor] | None = None
        if self.attack_step_size is None:
            self.attack_step_size = min(2.5 * self.eps / self.attack_steps, 1.25 * self.eps)
        if self.attack_step_size == 0 < self.eps:
            raise UsageProblem("`attack_step_size` must be above 0, not 0")
        if (self.attack_objective, self.attack_start) == ("kl", "clean"):
            raise UsageProblem(
                "the objective `kl` has no gradient at the image itself, where the attack starts",
                "start it beside the image: `-O attack_start=near` or `random`",
            )

    def setup(self, context: MethodContext) -> None:
        super().setup(context)
        objectives.check_classes(self.attack_objective, len(context.statistics.mean))

    def start(self, x: Tensor, rng: BatchRng) -> Tensor:
        """Return where the attack on a batch starts."""
        if self.attack_start == "random":
            return self.ball.start(x, rng)
        return x if self.attack_start == "clean" else x + _NEAR * rng.normal(x)

    def attack(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Tensor:
        """Return the adversarial examples of a batch."""
        assert self.attack_step_size is not None
        start = self.start(x, rng)
        train = self.attack_mode == "train"
        with record_function("attack"), frozen(model, train) as still:
            moved = pgd.ascend(
                self.interruptible(objectives.objective(self.attack_objective, still, x, y)),
                x,
                self.room,
                steps=self.attack_steps,
                step_size=self.attack_step_size,
                start=start,
            )
        self.latest = x, moved
        return moved

    def both_accuracies(self, clean: Tensor, moved: Tensor, y: Tensor) -> Metrics:
        """Return both accuracies by the logits of x and x^; `accuracy` is that under attack."""
        right = [(logits.argmax(1) == y).float().mean() for logits in (moved, clean)]
        return {"accuracy": right[0], "clean_accuracy": right[1]}

    def with_awp(
        self, model: Classifier, loss: Callable[[Logits], tuple[Tensor, T]]
    ) -> tuple[Tensor, T]:
        """Return `loss` of the model, with `awp` at weights moved against it (Wu et al. 2020)."""
        if not self.awp:
            return loss(model)
        with record_function("awp"):
            return at_worst_weights(model, loss, layerwise(self.awp))


@dataclass
class LangevinNegatives(ChainOptions, Method):
    """A method with negatives from a persistent chain on E(x)."""

    per_rank = kept = ("buffer",)
    sampling = ("sgld", "joint")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chain = Chain(self.sgld_steps, self.sgld_step_size, self.sgld_noise, self.sgld_clip)

    def setup(self, context: MethodContext) -> None:
        self.statistics = context.statistics.to(context.device)
        rng = BatchRng(mix(context.seed, 1), context.device)
        like = torch.empty(self.buffer_size, *context.images.shape[1:], device=context.device)
        self.buffer = self.initial_states(like, rng)

    def initial_states(self, like: Tensor, rng: BatchRng) -> Tensor:
        """Return new starting points of chains, shaped as `like`."""
        if self.chain_start == "uniform":
            return rng.uniform(like)
        labels = rng.integers(len(self.statistics.mean), len(like))
        return self.statistics.draw(labels, like, rng)

    def negatives(self, model: Classifier, x: Tensor, rng: BatchRng) -> Tensor:
        """Run one chain for each image of x from the buffer, and put its end back."""
        start, indices = replayed(self.buffer, self.initial_states(x, rng), self.reinit, rng)
        with record_function("chain"), frozen(model) as still:
            value = self.interruptible(lambda images: energy.marginal(still(images)))
            end = langevin(value, start, self.chain, rng)
        self.buffer[indices] = end
        return end

    def energy_loss(self, positive: Tensor, negative: Tensor) -> Loss:
        """Return lambda [E(x+) - E(x_K)] + regularisation, from the energies (n,) of x+ and x_K."""
        gap = positive.mean() - negative.mean()
        square = positive.square().mean() + negative.square().mean()
        metrics = {"energy": positive.mean(), "energy_sgld": negative.mean(), "energy_gap": gap}
        return self.lambda_ * gap + self.energy_l2 * square, metrics

    def likelihood(
        self, net: Logits, x: Tensor, y: Tensor, negatives: Tensor, positive: Tensor | None = None
    ) -> Loss:
        """Return CE(x) + lambda [E(x+) - E(x_K)] + regularisation; x+ is x, or `positive`."""
        logits = net(x)
        loss, metrics = self.classify(logits, y)
        above = energy.marginal(logits if positive is None else net(positive))
        gap, energies = self.energy_loss(above, energy.marginal(net(negatives)))
        return loss + gap, metrics | energies


@dataclass
class Jeat(AdversarialExamples, LangevinNegatives):
    """Joint energy adversarial training; at lambda = 1 the loss is E(x^, y) - E(x_K)."""

    attack_objective: str = attack_objective("joint")
    positive: str = option(
        "adversarial",
        "Image whose E(x) is minimised: the adversarial example or the clean image",
        choices=("adversarial", "clean"),
    )

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng) -> Loss:
        attacked = self.attack(model, x, y, rng)
        negatives = self.negatives(model, x, rng)
        clean = x if self.positive == "clean" else None
        return self.with_awp(
            model, lambda net: self.likelihood(net, attacked, y, negatives, positive=clean)
        )
