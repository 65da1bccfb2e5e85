"""Labelled images of the caller's own: tensors, arrays, or the batches of a loader."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageProblem
from .checks import indices, numbers, pixels
from .facts import TENSORS
from .images import Images

Pixels = Tensor | NDArray[np.generic]
# Images, or batches of images and labels, such as a DataLoader's.
Own = Pixels | Iterable[Sequence[Pixels]]
_GIVE = "give a tensor, an array, or a DataLoader whose batches are (images, labels)"


def given_images(
    images: Own | None,
    labels: Pixels | Sequence[int] | None,
    classes: tuple[str, ...],
    on: str | None = None,
) -> Images | None:
    """Return what `own_images` does, None without images; refuse them beside a data set `on`."""
    if images is not None and on is not None:
        raise UsageProblem(f"`images` and `on={on!r}` exclude each other", "leave one of them out")
    if images is None and labels is not None:
        raise UsageProblem("there are labels, but no images", "give `images` too")
    return None if images is None else own_images(images, labels, classes)


def own_images(
    images: Own, labels: Pixels | Sequence[int] | None, classes: tuple[str, ...]
) -> Images:
    """Return images of the caller's own as a data set; refuse what does not fit.

    They are (n, C, H, W), floats in [0, 1] or uint8, or batches of them and their labels. Labels
    are indices of the classes (n,), None where the batches have them.
    """
    x, given = own_pixels(images)
    if given is not None and labels is not None:
        raise UsageProblem("the batches already have labels", "leave out `labels`")
    if given is None and labels is None:
        raise UsageProblem("the images have no labels", "give `labels` too")
    y = numbers(labels, "the labels") if given is None else given
    return Images(TENSORS, x, indices(y, len(x), len(classes)), classes)


def own_pixels(images: Own) -> tuple[Tensor, Tensor | None]:
    """Return images of the caller's own, uint8 or float32 in [0, 1], and the labels of batches."""
    if isinstance(images, Tensor | np.ndarray):
        return pixels(numbers(images, "the images")), None
    if not isinstance(images, Iterable):
        raise UsageProblem(f"images cannot be of the type {type(images).__name__}", _GIVE)
    parts = [_batch(batch) for batch in images]
    if not parts:
        raise UsageProblem("there are no batches of images and labels", "give a DataLoader")
    kinds = {f"{x.dtype} of {'x'.join(map(str, x.shape[1:]))}" for x, _ in parts}
    if len(kinds) > 1:
        raise UsageProblem(f"the batches differ: {', '.join(sorted(kinds))}", "make them alike")
    x, y = (torch.cat(each) for each in zip(*parts, strict=True))
    return pixels(x), y


def _batch(batch: object) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a batch; others may follow them, such as indices."""
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        kind = type(batch).__name__
        if isinstance(batch, tuple | list):
            kind = f"{kind} of length {len(batch)}"
        raise UsageProblem(f"a batch is a {kind}, not images and their labels", _GIVE)
    x, y = numbers(batch[0], "the images"), numbers(batch[1], "the labels")
    if y.ndim < 1:
        raise UsageProblem("these are single images with a label, not batches", _GIVE)
    return x, y
