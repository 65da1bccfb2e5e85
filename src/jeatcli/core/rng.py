"""Random numbers that depend on a seed and a position, and on nothing else.

Generators are seeded by the run's seed and the step in training, by the seed and the image's index
elsewhere. So a resumed run draws the numbers of the uninterrupted one, and image k is the same in
any batch (Karras et al. 2022 have one seed per image for the same reason).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """Hash integers into one of 63 bits, by the finaliser of SplitMix64 (Steele et al. 2014)."""
    state = 0
    for part in parts:
        state = (state + (part & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


@contextmanager
def drawing_by(seed: int, device: torch.device) -> Iterator[None]:
    """Let the layers of a network that draw (dropout, stochastic depth) do so by a seed."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)  # of the current device, which is this process's
        yield


class Rng(Protocol):
    """A source of random tensors of a batch's shape, type and device."""

    def uniform(self, like: Tensor) -> Tensor:
        """Draw from U(0, 1)."""

    def normal(self, like: Tensor) -> Tensor:
        """Draw from N(0, 1)."""


class BatchRng:
    """One generator for the whole batch, on its device: the fast source for training.

    Args:
        seed: The generator's.
        device: The batch's.
        part: This process's share of a batch, and the number of shares. Every process draws for
            the whole batch and takes its share, so that the numbers of an image do not depend
            on how the batch is split.
    """

    def __init__(
        self, seed: int, device: torch.device | str = "cpu", part: tuple[int, int] = (0, 1)
    ) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.part, self.parts = part

    def uniform(self, like: Tensor) -> Tensor:
        return self._mine(torch.rand(self._whole(like), **self._as(like)))

    def normal(self, like: Tensor) -> Tensor:
        return self._mine(torch.randn(self._whole(like), **self._as(like)))

    def integers(self, high: int, count: int) -> Tensor:
        """Draw `count` integers of [0, high)."""
        size = (count * self.parts,)
        device = self.generator.device
        return self._mine(torch.randint(high, size, generator=self.generator, device=device))

    def choice(self, high: int, count: int) -> Tensor:
        """Draw `count` different integers of [0, high) for this process alone."""
        device = self.generator.device
        drawn = [
            torch.randperm(high, generator=self.generator, device=device)[:count]
            for _ in range(self.parts)
        ]
        return drawn[self.part]

    def _whole(self, like: Tensor) -> tuple[int, ...]:
        return (len(like) * self.parts, *like.shape[1:])

    def _as(self, like: Tensor) -> dict[str, Any]:
        return {"generator": self.generator, "device": like.device, "dtype": like.dtype}

    def _mine(self, drawn: Tensor) -> Tensor:
        return drawn.chunk(self.parts)[self.part]


class ImageRng:
    """One generator per image, on the CPU: the same numbers in any batch, on any device."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def take(self, keep: Tensor) -> ImageRng:
        """Return the source of the images at these indices, in the state that it has here."""
        part = ImageRng([])
        part.generators = [self.generators[index] for index in keep.tolist()]
        return part

    def uniform(self, like: Tensor) -> Tensor:
        return self._stack(torch.rand, like)

    def normal(self, like: Tensor) -> Tensor:
        return self._stack(torch.randn, like)

    def _stack(self, draw: Callable[..., Tensor], like: Tensor) -> Tensor:
        rows = [draw(like.shape[1:], generator=each, device="cpu") for each in self.generators]
        return torch.stack(rows).to(device=like.device, dtype=like.dtype)
