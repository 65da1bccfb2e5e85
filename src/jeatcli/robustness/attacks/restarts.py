"""What an attack has broken so far, and which images are left for the next start."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ...core.pgd import Ball
from ...core.rng import ImageRng
from .batch import Batch
from .surrogate import Surrogate

# Takes the number of the start, the images that are left, their positions in the attack's batch,
# and what is broken so far.
Search = Callable[[int, Batch, Tensor, "Broken"], None]


@dataclass
class Rows:
    """The state of a search, a row for each pair of an image and a class to try.

    Subclasses add tensors, or whatever else has a method `take`.
    """

    batch: Batch  # the images, `toward` set where there are classes to try
    image: Tensor  # each row's image, a position in the batch of the attack (n,)

    def take(self, keep: Tensor) -> Self:
        """Return the rows at the positions `keep` alone."""
        taken: dict[str, Any] = {
            name: part[keep] if isinstance(part, Tensor) else part.take(keep)
            for name, part in vars(self).items()
        }
        return replace(self, **taken)

    def without(self, gone: Tensor) -> Self:
        """Return the rows that are not gone, by a mask (n,)."""
        return self.take((~gone).nonzero().squeeze(1)) if gone.any() else self


class Broken:
    """For each image of a batch its adversarial example, once there is one."""

    def __init__(self, batch: Batch) -> None:
        self.images = batch.x.clone()
        self.mask = torch.zeros(len(batch), dtype=torch.bool, device=batch.x.device)

    @property
    def left(self) -> Tensor:
        """The positions of the images that are not broken yet."""
        return (~self.mask).nonzero().squeeze(1)

    def add(self, image: Tensor, moved: Tensor, broken: Tensor) -> None:
        """Keep the rows of `moved` that are broken; of several of an image the first.

        `image` is the position of the image that each row belongs to (rows,).
        """
        rows = broken.nonzero().squeeze(1)
        if not len(rows):
            return
        first = torch.full((len(self.mask),), len(image), device=image.device)
        first.scatter_reduce_(0, image[rows], rows, "amin")
        new = ((first < len(image)) & ~self.mask).nonzero().squeeze(1)
        self.images[new] = moved[first[new]]
        self.mask[new] = True

    def limit(self, image: Tensor, eps: float) -> Tensor:
        """Return how near a new adversarial row of each image must be to count."""
        return torch.full(image.shape, eps, device=image.device)

    def confirm(self, surrogate: Surrogate, image: Tensor, batch: Batch, best: Tensor) -> None:
        """Try the best points on the victim: another network, or a coarse search, may differ."""
        if len(image) and (surrogate.is_transfer or not surrogate.is_exact):
            self.add(image, best, surrogate.breaks_victim(batch, best))


class Nearest(Broken):
    """For each image the nearest adversarial example so far; all images stay for every start."""

    def __init__(self, batch: Batch, ball: Ball) -> None:
        super().__init__(batch)
        self.x, self.ball = batch.x, ball
        self.distance = torch.full((len(batch),), torch.inf, device=batch.x.device)

    def add(self, image: Tensor, moved: Tensor, broken: Tensor) -> None:
        away = self.ball.distance(moved, self.x[image]).masked_fill(~broken, torch.inf)
        closest = self.distance.scatter_reduce(0, image, away, "amin")
        mask = self.mask.clone()
        super().add(image, moved, broken & (away == closest[image]) & (away < self.distance[image]))
        self.mask, self.distance = mask, closest

    def limit(self, image: Tensor, eps: float) -> Tensor:
        return self.distance[image].clamp_max(eps)


def from_starts(
    surrogate: Surrogate, batch: Batch, restarts: int, search: Search, broken: Broken | None = None
) -> Tensor:
    """Search from several starts, each time for the images that are not broken yet.

    Where the victim is another network, an image is left until it has broken that one. Returns
    adversarial images where there are any, else the images as they are.
    """
    broken = broken or Broken(batch)
    for restart in range(restarts):
        left = broken.left
        if not len(left):
            break
        part = batch.take(left)
        search(restart, part, left, broken)
        if surrogate.is_transfer:
            broken.mask[left] = surrogate.breaks_victim(part, broken.images[left])
    return broken.images


def tries(
    part: Batch, seed: int, restart: int, classes: Tensor | None
) -> tuple[Batch, list[ImageRng]]:
    """Return the images once for each class to try (n, T), or once, and a source for each."""
    count = 1 if classes is None else classes.shape[1]
    rows = part if classes is None else part.toward_each(classes)
    return rows, [part.rng(seed, restart, number) for number in range(count)]
