"""What an attack is given: the threat model with its options, and a batch of images."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ...core.rng import ImageRng, mix
from ...core.threat import Threat

OPTIONS = ("objective", "steps", "step_size", "restarts", "queries")


@dataclass(frozen=True)
class AttackOptions:
    """The threat model, the seed, and the attacks' options that are not left at their standard."""

    threat: Threat  # norm and radius, in the [0, 1] pixel scale
    objective: str | None = None  # as the next four, see `AttackSettings`
    steps: int | None = None
    step_size: float | None = None
    restarts: int | None = None
    queries: int | None = None
    seed: int = 0  # of the random starts

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that are not left at their standard."""
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Batch:
    """The images to attack."""

    x: Tensor  # images (n, C, H, W) in [0, 1]
    y: Tensor  # true labels (n,)
    target: Tensor | None  # the class to reach (n,), or None for any wrong one
    index: Tensor  # indices of the images in the test set (n,), which their randomness depends on
    # The class that an attack tries on the way to any wrong one (n,), or None.
    toward: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, keep: Tensor) -> Self:
        """Return the images at the positions `keep` alone."""
        parts = {name: part[keep] for name, part in vars(self).items() if part is not None}
        return replace(self, **parts)

    def toward_each(self, classes: Tensor) -> Self:
        """Return the images once for each of their classes (n, T), those of the first one first."""
        repeated = self.take(torch.arange(len(self), device=self.x.device).repeat(classes.shape[1]))
        return replace(repeated, toward=classes.T.reshape(-1))

    def rng(self, seed: int, *purpose: int) -> ImageRng:
        """Return a source of randomness of each image's own."""
        return ImageRng([mix(seed, *purpose, index) for index in self.index.tolist()])

    def broken(self, logits: Tensor) -> Tensor:
        """Return which images, by these logits, are classified as the target, or wrongly."""
        predicted = predictions(logits)
        return predicted != self.y if self.target is None else predicted == self.target


def predictions(logits: Tensor) -> Tensor:
    """Return the classes (n,) of logits (n, K), -1 for NaN, which `argmax` takes for largest."""
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1)
