"""What an attack is told, what it is given, and what it has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core import objectives
from ...core.rng import ImageRng, mix
from ...core.threat import Threat
from ...errors import UsageProblem, unknown

if TYPE_CHECKING:
    pass

OPTIONS = ("objective", "steps", "step_size", "restarts", "queries")


@dataclass(frozen=True)
class Plan:
    """The threat model, and the options of attacks that are not left at their standard values.

    Args:
        threat: Norm and radius, in the [0, 1] pixel scale.
        objective: What is raised, one of `pgd.OBJECTIVES`.
        steps: Gradient steps of iterative attacks.
        step_size: In the [0, 1] pixel scale.
        restarts: Runs from different random starts.
        queries: Of attacks that use no gradient.
        seed: Of the random starts.
    """

    threat: Threat
    objective: str | None = None
    steps: int | None = None
    step_size: float | None = None
    restarts: int | None = None
    queries: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "queries"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise UsageProblem(f"{name} must be at least 1, not {number}")
        if self.objective is not None and self.objective not in objectives.OBJECTIVES:
            raise unknown("objective", self.objective, objectives.OBJECTIVES)

    @property
    def options(self) -> dict[str, Any]:
        """The options that are given."""
        given = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Batch:
    """The images to attack.

    Args:
        x: Images (n, C, H, W) in [0, 1].
        y: True labels (n,).
        target: The class to reach (n,), or None for any wrong one.
        index: Places of the images in the whole set (n,), which their randomness depends on.
        toward: The class that an attack tries on the way to any wrong one (n,), or None.
    """

    x: Tensor
    y: Tensor
    target: Tensor | None
    index: Tensor
    toward: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, keep: Tensor) -> Batch:
        """Return the images at the places `keep` alone."""
        target = None if self.target is None else self.target[keep]
        toward = None if self.toward is None else self.toward[keep]
        return Batch(self.x[keep], self.y[keep], target, self.index[keep], toward)

    def toward_each(self, classes: Tensor) -> Batch:
        """Return the images once for each of their classes (n, T), those of the first one first."""
        count = classes.shape[1]
        each = self.take(torch.arange(len(self), device=self.x.device).repeat(count))
        return Batch(each.x, each.y, each.target, each.index, classes.T.reshape(-1))

    def tries(
        self, seed: int, restart: int, classes: Tensor | None
    ) -> tuple[Batch, list[ImageRng]]:
        """Return the images once for each class to try (n, T), or once, and a source for each."""
        count = 1 if classes is None else classes.shape[1]
        rows = self if classes is None else self.toward_each(classes)
        return rows, [self.rng(seed, restart, number) for number in range(count)]

    def rng(self, seed: int, *purpose: int) -> ImageRng:
        """Return a source of randomness of each image's own."""
        return ImageRng([mix(seed, *purpose, index) for index in self.index.tolist()])

    def broken(self, logits: Tensor) -> Tensor:
        """Return which images, by these logits, are taken for the target, or for a wrong class."""
        guess = logits.argmax(1)
        return guess != self.y if self.target is None else guess == self.target


Perturb = Callable[..., Tensor]


def too_few(name: str, needed: int, classes: int) -> tuple[str, str] | None:
    """Return why an attack cannot run on so few classes, and what can; None where it can."""
    if classes >= needed:
        return None
    return (
        f"attack `{name}` needs {needed} classes; there are {classes}",
        "use `--attack apgd-ce --attack fab-t --attack square`",
    )
