"""Memorisation: the training images nearest to drawn ones, in the judge's features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data import pictures
from ..data.images import Images

_SHOWN, _NEAREST = 12, 6
# Training images whose own neighbours are looked up, to compare with.
_QUERIES = 2000
_ROWS = 500


@dataclass(frozen=True)
class Neighbours:
    """How near drawn images are to training images, in units of the features.

    Args:
        median: Distance of an image to the nearest training image, the median over all.
        median_train: The same of a training image to the nearest other one. A generator that
            copies has a median far below it.
        identical: Share of the images that are a training image, pixel for pixel.
        picture: Where the first images are shown beside their nearest training images.
    """

    median: float
    median_train: float
    identical: float
    picture: Path


def nearest(values: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return distances and indices of the `count` nearest rows, each (n, count), nearest first.

    Args:
        values: Features (n, d).
        among: Features (m, d), with m at least `count`.
        count: How many for each.
    """
    parts = [_nearest(rows, among, count) for rows in torch.split(values, _ROWS)]
    distances, indices = zip(*parts, strict=True)
    return torch.cat(distances), torch.cat(indices)


def _nearest(rows: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    indices = torch.cdist(rows, among).topk(count, largest=False).indices
    # The search multiplies matrices, to which a copy is not at distance 0.
    exact = (rows[:, None].double() - among[indices].double()).norm(dim=2)
    distances, order = exact.sort(dim=1)
    return distances, indices.gather(1, order)


def look_up(
    images: Tensor, values: Tensor, training: Images, theirs: Tensor, path: Path
) -> Neighbours:
    """Find the nearest training images, and draw them beside the first images.

    Args:
        images: uint8 (n, C, H, W).
        values: Their features (n, d).
        training: The images on which the generator was trained.
        theirs: Their features (m, d).
        path: The PNG to write: a row an image, the image first.

    Raises:
        JeatError: If the picture cannot be written.
    """
    count = min(_NEAREST, len(training))
    distances, indices = nearest(values, theirs, count)
    own = nearest(theirs[:_QUERIES], theirs, min(2, len(theirs)))[0][:, -1]
    first = zip(images[:_SHOWN], indices[:_SHOWN], strict=True)
    shown = [torch.cat([image[None], training.x[near]]) for image, near in first]
    scale = max(1, 32 // images.shape[-1])
    picture = pictures.grid(torch.cat(shown), count + 1, scale)
    text = {"jeat": f"the image, then its {count} nearest of {training.name}, the nearest first"}
    pictures.save_png(picture, path, text)
    return Neighbours(
        distances[:, 0].median().item(),
        own.median().item(),
        _identical(images, training.x),
        path,
    )


def _identical(images: Tensor, training: Tensor) -> float:
    known = {image.numpy().tobytes() for image in training.cpu()}
    return sum(image.numpy().tobytes() in known for image in images.cpu()) / max(len(images), 1)
