"""The weights of 3x3 convolutions at Winograd's points (Lavin and Gray 2016), as the kernel reads.

Along one axis, a matrix takes the three weights to the points. Of stride 1 it is one matrix, of
F(4, 3). Of stride 2 it is two of F(4, 2): for the pixels at odd places, which the first and the
last weight meet, and for those at even places, which the middle one meets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._kernel import kernel

# Three weights to six points: 0, 1, -1, 2, -2 and infinity.
_SAME = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)[None]
# Two weights to five points: 0, 1, -1, 2 and infinity.
_PAIR = torch.tensor(
    [[1 / 2, 0], [-1 / 2, -1 / 2], [-1 / 6, 1 / 6], [1 / 6, 1 / 3], [0, 1]], dtype=torch.float64
)
# Which weights those two are: ahead, (0, 2) of odd places and (none, 1) of even ones; back, (2, 0)
# of odd places and (1, none) of even ones.
_DOWN = _PAIR @ torch.tensor([[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]]], dtype=torch.float64)
_UP = _PAIR @ torch.tensor([[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 0, 0]]], dtype=torch.float64)
# How many numbers the nine weights of an input and an output become, by stride.
PRODUCTS = {1: 36, 2: 81}


def ahead(weight: Tensor, stride: int) -> Tensor:
    """Return weights (K, C, 3, 3) for the way ahead, flat: K * C * PRODUCTS[stride] numbers."""
    axis = _SAME if stride == 1 else _DOWN
    return _transformed(weight, axis, axis)


def back(weight: Tensor, stride: int) -> Tensor:
    """Return weights (K, C, 3, 3) for the way that gradients take, flat."""
    turned = weight.transpose(0, 1)
    if stride == 1:
        return _transformed(turned.flip(2, 3), _SAME, _SAME)
    axes = (_UP[:1], _UP[1:])
    return torch.cat([_transformed(turned, down, across) for down in axes for across in axes])


def _transformed(weight: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return weights (K, C, 3, 3) at the points where they are not all zero.

    Args:
        weight: The weights.
        down: A matrix (points, 3) for each kind of row.
        across: A matrix (points, 3) for each kind of column.
    """
    library = kernel()
    assert library is not None
    outputs, inputs = weight.shape[:2]
    panel = library.panel(outputs)
    pairs = torch.einsum("rpa,sqb->pqrsab", down, across).flatten(0, 3).flatten(1)
    there = pairs[pairs.any(1)]
    points = there @ weight.detach().double().reshape(outputs * inputs, 9).T
    panels = points.float().view(-1, outputs // panel, panel, inputs)
    return panels.permute(1, 0, 3, 2).flatten()
