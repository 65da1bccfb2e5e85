"""The classifier as an attack sees it: quick where it searches, plain where it judges."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ...acceleration.twins import accelerate
from ...core.models.classifier import Classifier
from .batch import Batch


def ignore(step: int) -> None:
    """Tell nobody about a step."""


class Search:
    """A classifier to search on, whose successes the plain float32 classifier confirms.

    Args:
        classifier: In eval mode, float32.
        judge: Whose verdict counts; None for the classifier itself.
        dtype: What the search computes in; None is float32.
        compiled: Whether torch compiles the network.
        on_step: Hears the number of each step.

    Attributes:
        plain: The classifier as it is, to confirm what was found.
        exact: Whether the plain classifier itself is searched on: there is nothing to confirm.
        forward, backward: Images that went through the network so far, either way.
        nan: How many gradients so far had NaN in them.
    """

    def __init__(
        self,
        classifier: Classifier,
        dtype: torch.dtype | None = None,
        on_step: Callable[[int], None] = ignore,
        compiled: bool = False,
        judge: Classifier | None = None,
    ) -> None:
        self.plain = classifier
        self.judge = judge or classifier
        self.on_step = on_step
        self.forward = self.backward = 0
        self._nan = torch.zeros((), dtype=torch.long)
        self._quick = accelerate(classifier, dtype, compiled)
        self.exact = self._quick is classifier

    @property
    def transfers(self) -> bool:
        """Whether what breaks the classifier is to break another one."""
        return self.judge is not self.plain

    def anew(self, on_step: Callable[[int], None]) -> Search:
        """Return the same search with nothing counted yet."""
        twin = copy.copy(self)
        twin.forward = twin.backward = 0
        twin._nan = torch.zeros((), dtype=torch.long)
        twin.on_step = on_step
        return twin

    @property
    def nan(self) -> int:
        return int(self._nan)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the float32 logits (n, K) of images (n, C, H, W) in [0, 1]."""
        self.forward += len(x)
        if x.requires_grad:
            x.register_hook(self._look)
        logits: Tensor = self._quick(x)
        return logits

    def _look(self, gradient: Tensor) -> None:
        # No number is fetched from the device here: that would wait for it at every step.
        self._nan = self._nan.to(gradient.device) + gradient.isnan().flatten(1).any(1).sum()

    def gradient(
        self, loss: Callable[[Tensor], Tensor], moved: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the values of a loss of the logits (n,), its gradient by the images, the logits.

        One forward pass serves all three.
        """
        with torch.enable_grad():
            moved = moved.detach().requires_grad_(True)
            logits = self(moved)
            values = loss(logits)
            (gradient,) = torch.autograd.grad(values.sum(), moved)
        self.backward += len(moved)
        return values.detach(), gradient, logits.detach()

    @torch.no_grad()
    def broken(self, batch: Batch, moved: Tensor, logits: Tensor) -> Tensor:
        """Return which of the moved images are broken: by their logits, confirmed by the plain."""
        broken = batch.broken(logits) & _numbers(moved)
        if self.exact:
            return broken
        rows = broken.nonzero().squeeze(1)
        if len(rows):
            broken[rows] = self.surely_broken(batch.take(rows), moved[rows])
        return broken

    @torch.no_grad()
    def surely_broken(self, batch: Batch, moved: Tensor) -> Tensor:
        """Return which of the moved images the plain classifier takes for something else."""
        self.forward += len(moved)
        return batch.broken(self.plain(moved))

    @torch.no_grad()
    def judged(self, batch: Batch, moved: Tensor) -> Tensor:
        """Return which of the moved images the judge takes for something else."""
        self.forward += len(moved)
        return batch.broken(self.judge(moved)) & _numbers(moved)


def _numbers(moved: Tensor) -> Tensor:
    """Return which images have no NaN in them: of one that has, any class is the likeliest."""
    return ~moved.isnan().flatten(1).any(1)
