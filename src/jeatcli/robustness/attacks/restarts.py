"""What an attack has broken so far, and which images are left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .batch import Batch

if TYPE_CHECKING:
    from .surrogate import Search


class Found:
    """For each image of a batch the adversarial one that an attack has found, or none yet.

    Args:
        batch: The images.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.images = batch.x.clone()
        self.broken = torch.zeros(len(batch), dtype=torch.bool, device=batch.x.device)

    @property
    def left(self) -> Tensor:
        """The places of the images that are not broken yet."""
        return (~self.broken).nonzero().squeeze(1)

    def restarts(self, count: int, search: Search) -> Iterator[tuple[int, Tensor, Batch]]:
        """Yield, at most `count` times, its number and the images that are left, with places.

        Where the search is on another classifier than the one that judges, an image is left
        until it has broken that one.
        """
        for restart in range(count):
            left = self.left
            if not len(left):
                return
            part = self.batch.take(left)
            yield restart, left, part
            if search.transfers:
                self.broken[left] = search.judged(part, self.images[left])

    def add(self, image: Tensor, moved: Tensor, broken: Tensor) -> None:
        """Take up the rows of `moved` that are broken; of several of an image the first.

        Args:
            image: The place of the image that each row belongs to (rows,).
            moved: Moved images (rows, C, H, W).
            broken: Which of them are adversarial (rows,).
        """
        rows = broken.nonzero().squeeze(1)
        if not len(rows):
            return
        first = torch.full((len(self.broken),), len(image), device=image.device)
        first.scatter_reduce_(0, image[rows], rows, "amin")
        new = ((first < len(image)) & ~self.broken).nonzero().squeeze(1)
        self.images[new] = moved[first[new]]
        self.broken[new] = True
