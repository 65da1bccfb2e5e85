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
    x = pixels(x.detach().cpu())
    return Images(TENSORS, x, indices(y.detach().cpu(), len(x), len(classes)), classes)
