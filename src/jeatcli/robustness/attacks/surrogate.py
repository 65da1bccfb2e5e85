"""The model that an attack sees: fast where it searches, confirmed by the exact one."""

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from ...acceleration.twins import accelerate
from ...acceleration.ways import LIBRARY, Way
from ...core.models.classifier import Classifier
from . import TARGETS
from .batch import Batch


class Surrogate:
    """A classifier to search on, whose successes the exact float32 classifier confirms.

    The search computes in `dtype`, float32 if it is None. The predictions of `victim` count, those
    of the classifier itself if it is None.
    """

    def __init__(
        self,
        classifier: Classifier,
        dtype: torch.dtype | None = None,
        way: Way = LIBRARY,
        victim: Classifier | None = None,
    ) -> None:
        self.exact_model = classifier
        self.victim = victim or classifier
        # Called before each inner step.
        self.on_step: Callable[[], None] = lambda: None
        self.forward = self.backward = 0  # images that went through the network, either way
        self._nan: Tensor | int = 0
        self._fast_model = accelerate(classifier, dtype, way)
        self.is_exact = self._fast_model is classifier  # nothing is left to confirm

    @property
    def is_transfer(self) -> bool:
        """Whether what breaks the classifier is meant to break another one."""
        return self.victim is not self.exact_model

    @property
    def nan(self) -> int:
        """How many gradients so far had NaN in them."""
        return int(self._nan)

    def fresh(self, on_step: Callable[[], None]) -> Self:
        """Return the same surrogate with nothing counted yet."""
        twin = copy.copy(self)
        twin.forward = twin.backward = twin._nan = 0
        twin.on_step = on_step
        return twin

    def __call__(self, x: Tensor) -> Tensor:
        """Return the float32 logits (n, K) of images (n, C, H, W) in [0, 1]."""
        self.forward += len(x)
        if x.requires_grad:
            x.register_hook(self._count_nan)
        logits: Tensor = self._fast_model(x)
        return logits

    def _count_nan(self, gradient: Tensor) -> None:
        # No number is fetched from the device here: that would wait for it at every step.
        self._nan = self._nan + gradient.isnan().flatten(1).any(1).sum()

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
        """Return which of the moved images are broken by their logits, and in the exact model."""
        return self.confirmed(batch, moved, batch.broken(logits) & _without_nan(moved))

    def confirmed(self, batch: Batch, moved: Tensor, broken: Tensor) -> Tensor:
        """Return which of the moved images, broken by a mask (n,), break the exact model, too."""
        if self.is_exact or not len(rows := broken.nonzero().squeeze(1)):
            return broken
        broken = broken.clone()
        broken[rows] = self.breaks_exact_model(batch.take(rows), moved[rows])
        return broken

    @torch.no_grad()
    def breaks_exact_model(self, batch: Batch, moved: Tensor) -> Tensor:
        """Return which of the moved images break the exact model."""
        self.forward += len(moved)
        return batch.broken(self.exact_model(moved))

    @torch.no_grad()
    def breaks_victim(self, batch: Batch, moved: Tensor) -> Tensor:
        """Return which of the moved images break the victim."""
        self.forward += len(moved)
        return batch.broken(self.victim(moved)) & _without_nan(moved)

    @torch.no_grad()
    def likeliest(self, batch: Batch, count: int = TARGETS) -> Tensor:
        """Return the `count` likeliest wrong classes (n, T), or the one class to reach.

        The exact model ranks them: rounding would swap the last with one that is left out.
        """
        if batch.target is not None:
            return batch.target[:, None]
        self.forward += len(batch)
        logits: Tensor = self.exact_model(batch.x)
        logits = logits.scatter(1, batch.y[:, None], -torch.inf)
        return logits.topk(min(count, logits.shape[1] - 1), dim=1).indices


def _without_nan(moved: Tensor) -> Tensor:
    """Return which images have no NaN in them: of one that has, any class is the likeliest."""
    return ~moved.isnan().flatten(1).any(1)
