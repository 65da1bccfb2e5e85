"""What an attack is told and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import pgd
from ..errors import UsageProblem
from ..models import Classifier
from ..randomness import ImageRng, mix
from ..threat import Threat


@dataclass(frozen=True)
class Plan:
    """The settings of an attack.

    Args:
        threat: Norm and radius, in the [0, 1] pixel scale.
        objective: What is raised, one of `pgd.OBJECTIVES`.
        steps: Gradient steps of iterative attacks.
        step_size: In the [0, 1] pixel scale; None is 2.5 eps / steps (Madry et al. 2018).
        restarts: Runs from different random starts.
        seed: Of the random starts.
    """

    threat: Threat
    objective: str = "ce"
    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise UsageProblem(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def resolved_step_size(self) -> float:
        """The step size, its default resolved."""
        return 2.5 * self.threat.eps / self.steps if self.step_size is None else self.step_size


@dataclass(frozen=True)
class Batch:
    """The images to attack.

    Args:
        x: Images (n, C, H, W) in [0, 1].
        y: True labels (n,).
        target: The class to reach (n,), or None for any wrong one.
        index: Places of the images in the whole set (n,), which their randomness depends on.
    """

    x: Tensor
    y: Tensor
    target: Tensor | None
    index: Tensor

    def take(self, keep: Tensor) -> Batch:
        """Return the images at the places `keep` alone."""
        target = None if self.target is None else self.target[keep]
        return Batch(self.x[keep], self.y[keep], target, self.index[keep])

    def rng(self, seed: int, *purpose: int) -> ImageRng:
        """Return a source of randomness of each image's own."""
        return ImageRng([mix(seed, *purpose, index) for index in self.index.tolist()])

    @torch.no_grad()
    def broken(self, model: Classifier, moved: Tensor) -> Tensor:
        """Return which of the moved images are taken for the target, or for a wrong class."""
        guess: Tensor = model(moved).argmax(1)
        return guess != self.y if self.target is None else guess == self.target

    def value(self, plan: Plan, model: Classifier) -> pgd.PerImage:
        """Return the objective to raise."""
        return pgd.objective(plan.objective, model, self.x, self.y, self.target)


Perturb = Callable[[Classifier, Batch, Plan], Tensor]
