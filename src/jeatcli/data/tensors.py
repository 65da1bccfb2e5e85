"""Labelled images of the caller's own: tensors, arrays, or the batches of a loader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageProblem
from .arrays import indices, pixels
from .facts import TENSORS
from .images import Images

Pixels = Tensor | NDArray[np.generic]
# Images, or batches of images and labels, such as a DataLoader's.
Own = Pixels | Iterable[Sequence[Pixels]]


def own_images(
    images: Own, labels: Pixels | Sequence[int] | None, classes: tuple[str, ...]
) -> Images:
    """Return images of the caller's own as a data set.

    Args:
        images: (n, C, H, W), floats in [0, 1] or uint8; or batches of them and their labels.
        labels: Indices of the classes (n,); None where the batches have them.
        classes: Names of the classes.

    Raises:
        UsageProblem: Naming what does not fit.
    """
    x, given = own_pixels(images)
    if given is not None and labels is not None:
        raise UsageProblem("batches have their labels with them", "leave out `labels`")
    if given is None and labels is None:
        raise UsageProblem("images without labels", "give `labels` too")
    y = torch.as_tensor(labels) if given is None else given
    return Images(TENSORS, x, indices(y.detach().cpu(), len(x), len(classes)), classes)


def own_pixels(images: Own) -> tuple[Tensor, Tensor | None]:
    """Return images of the caller's own, uint8 or float32 in [0, 1], and the labels of batches.

    Raises:
        UsageProblem: Naming what does not fit.
    """
    if isinstance(images, Tensor | np.ndarray):
        return pixels(torch.as_tensor(images).detach().cpu()), None
    parts = [tuple(torch.as_tensor(each) for each in batch[:2]) for batch in images]
    if not parts or min(map(len, parts)) < 2:
        raise UsageProblem("there are no batches of images and labels", "give a DataLoader")
    x, y = (torch.cat(each) for each in zip(*parts, strict=True))
    return pixels(x.detach().cpu()), y
