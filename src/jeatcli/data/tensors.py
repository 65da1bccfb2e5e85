"""Labelled images of the caller's own: tensors, arrays, or the batches of a loader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageProblem
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
    if not isinstance(images, Tensor | np.ndarray):
        if labels is not None:
            raise UsageProblem("batches have their labels with them", "leave out `labels`")
        parts = [tuple(torch.as_tensor(each) for each in batch[:2]) for batch in images]
        if not parts or min(map(len, parts)) < 2:
            raise UsageProblem("there are no batches of images and labels", "give a DataLoader")
        x, y = (torch.cat(each) for each in zip(*parts, strict=True))
    elif labels is None:
        raise UsageProblem("images without labels", "give `labels` too")
    else:
        x, y = torch.as_tensor(images), torch.as_tensor(labels)
    return Images(
        TENSORS, pixels(x.detach().cpu()), indices(y.detach().cpu(), len(x), classes), classes
    )


def pixels(x: Tensor, where: str = "the images") -> Tensor:
    """Return images as a data set has them, uint8 or float32 in [0, 1].

    Raises:
        UsageProblem: If they are of another shape or range.
    """
    shape = "x".join(map(str, x.shape))
    if x.ndim != 4 or not x.numel():
        raise UsageProblem(f"{where} have the shape {shape}", "give them as (n, C, H, W)")
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise UsageProblem(
            f"{where} have the shape {shape}, with the channels last",
            "move them: `images.transpose(0, 3, 1, 2)`, or `permute` for tensors",
        )
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise UsageProblem(f"{where} are {x.dtype}", "give uint8, or floats in [0, 1]")
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):  # False for NaN, too
        raise UsageProblem(
            f"{where} have pixels from {low:g} to {high:g}, not in [0, 1]",
            "divide pixels 0..255 by 255; take a normalisation back, and give it to `wrap`",
        )
    return x.float()


def indices(y: Tensor, count: int, classes: Sequence[str], where: str = "the labels") -> Tensor:
    """Return labels as a data set has them.

    Raises:
        UsageProblem: If they are not as many indices of classes.
    """
    if y.shape != (count,):
        shape = "x".join(map(str, y.shape))
        raise UsageProblem(f"{where} have the shape {shape} for {count:,} images", "give one each")
    if y.is_floating_point() or y.dtype == torch.bool:
        raise UsageProblem(f"{where} are {y.dtype}", "give whole numbers from 0")
    if not 0 <= int(y.min()) <= int(y.max()) < len(classes):
        raise UsageProblem(
            f"{where} go from {int(y.min())} to {int(y.max())}, but there are {len(classes)} "
            "classes",
            "count the classes from 0",
        )
    return y.long()
