"""Memorisation: the training images nearest to drawn ones, and AuthPct, in the judge's features."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data import pictures
from ..data.images import Images
from ..errors import JeatError
from ..runtime.progress import SILENT, Reporter
from .features import Features
from .intervals import Estimate, bootstrapped

# Rows of the picture, and what is above its columns; small images become so many pixels wide.
_SHOWN, _HEADINGS, _SIDE = 12, ("image", "nearest", "2nd", "3rd", "4th", "5th", "6th"), 64
# Training images whose own neighbours are looked up, to compare with: they lie evenly over all, for
# files may be in the order of their classes.
_QUERIES = 2000
_ROWS = 200


@dataclass(frozen=True)
class Neighbours:
    """How near drawn images are to training images, in units of the features."""

    median: float  # distance of an image to the nearest training image, the median over all
    # The same of a training image to the nearest other one. A generator that copies has a median
    # far below it.
    median_train: float
    identical: float  # share of the images that are a training image, pixel for pixel
    # Where the first images are shown beside their nearest training images; None if that could not
    # be written.
    picture: Path | None


def nearest(values: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return distances and indices (n, count) of the nearest rows of `among`, nearest first."""
    distances, indices = [], []
    for rows in torch.split(values, _ROWS):
        near = torch.cdist(rows, among).topk(count, largest=False).indices
        # The search multiplies matrices, which puts a copy at a distance slightly off 0.
        exact = (rows[:, None].double() - among[near].double()).norm(dim=2)
        ordered, order = exact.sort(dim=1)
        distances.append(ordered)
        indices.append(near.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


def look_up(
    images: Tensor,
    values: Tensor,
    training: Images,
    theirs: Tensor,
    path: Path,
    reporter: Reporter = SILENT,
) -> Neighbours:
    """Find the nearest training images, and draw them beside the first images.

    Images are uint8 (n, C, H, W), their features `values` and `theirs` (n, d). The picture has a
    row an image, the image first.
    """
    count = min(len(_HEADINGS) - 1, len(training))
    distances, indices = nearest(values, theirs, count)
    even = torch.linspace(0, len(theirs) - 1, min(_QUERIES, len(theirs))).round().long()
    own, _ = nearest(theirs[even], theirs, 2)
    first = zip(images[:_SHOWN], indices[:_SHOWN], strict=True)
    rows = torch.cat([torch.cat([image[None], training.x[near]]) for image, near in first])
    scale = max(1, _SIDE // images.shape[-1])
    picture = pictures.grid(rows, count + 1, scale, _HEADINGS[: count + 1])
    text = {"jeat": f"the image, then its {count} nearest of {training.name}, the nearest first"}
    try:
        pictures.save_png(picture, path, text)
        written: Path | None = path
    except JeatError as problem:  # which is no reason to lose the scores
        reporter.warn(problem.message)
        written = None
    # torch's own median is the lower one of the two in the middle.
    median, median_train = (float(rows.quantile(0.5)) for rows in (distances[:, 0], own[:, -1]))
    known = {image.numpy().tobytes() for image in training.x.cpu()}
    copies = sum(image.numpy().tobytes() in known for image in images.cpu())
    return Neighbours(median, median_train, copies / len(images), written)


def authpct(images: Features, reference: Features) -> dict[str, Estimate]:
    """Return the percentage of images farther from their nearest real one than its neighbour is.

    The others are closer to a training image than training images are to each other, as copies
    are (Alaa et al. 2022).
    """
    real = reference.values
    distance, index = nearest(images.values, real, 1)
    chosen, back = index[:, 0].unique(return_inverse=True)
    # The nearest of a real image is itself, or its copy.
    own = nearest(real[chosen], real, 2)[0][:, -1]
    return {"authpct": bootstrapped(100 * (distance[:, 0] > own[back]).double())}
