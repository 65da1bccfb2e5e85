"""The weights of 3x3 convolutions at Winograd's points (Lavin and Gray 2016), as the kernel reads.

Along one axis a matrix maps the three weights to the points. With stride 1 it is that of F(4, 3),
in bfloat16 of F(2, 3). With stride 2 there are two of F(4, 2), in bfloat16 of F(2, 2): for the
pixels at odd positions, which the first and last weight multiply, and for those at even ones, which
the middle one does.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .kernel import kernel

# Three weights to six points: 0, 1, -1, 2, -2 and infinity; and to four.
_SIX = torch.tensor(
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
_FOUR = torch.tensor(
    [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]], dtype=torch.float64
)[None]
_SAME = {torch.float32: _SIX, torch.bfloat16: _FOUR}
# Two weights to five points: 0, 1, -1, 2 and infinity; and to three.
_FIVE = torch.tensor(
    [[1 / 2, 0], [-1 / 2, -1 / 2], [-1 / 6, 1 / 6], [1 / 6, 1 / 3], [0, 1]], dtype=torch.float64
)
_THREE = torch.tensor([[1, 0], [1, 1], [0, 1]], dtype=torch.float64)
_PAIR = {torch.float32: _FIVE, torch.bfloat16: _THREE}
# Which weights those two are: forward, (0, 2) at odd positions and (none, 1) at even ones;
# backward, (2, 0) at odd positions and (1, none) at even ones.
_DOWN = torch.tensor([[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]]], dtype=torch.float64)
_UP = torch.tensor([[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 0, 0]]], dtype=torch.float64)
_ONE = torch.ones(1, 1, 1, dtype=torch.float64)
# How many numbers the nine weights of an input and an output become, by type and stride; and how
# many inputs lie side by side.
PRODUCTS = {torch.float32: {1: 36, 2: 81}, torch.bfloat16: {1: 16, 2: 25}}
_TOGETHER = {torch.float32: 1, torch.bfloat16: 2}


def forward_weights(weight: Tensor, stride: int, dtype: torch.dtype) -> Tensor:
    """Return weights (K, C, 3, 3) for the forward pass, flat: K * C * PRODUCTS numbers."""
    axis = _SAME[dtype] if stride == 1 else _PAIR[dtype] @ _DOWN
    return _transformed(weight, axis, axis, dtype)


def backward_weights(weight: Tensor, stride: int, dtype: torch.dtype) -> Tensor:
    """Return weights (K, C, 3, 3) for the backward pass, flat."""
    turned = weight.transpose(0, 1)
    if stride == 1:
        return _transformed(turned.flip(2, 3), _SAME[dtype], _SAME[dtype], dtype)
    axes = (_PAIR[dtype] @ _UP).split(1)
    parts = [_transformed(turned, down, across, dtype) for down in axes for across in axes]
    return torch.cat(parts)


def point_weights(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return weights (K, C, 1, 1) for a convolution of 1x1, flat; turned, for its backward pass."""
    return _transformed(weight, _ONE, _ONE, dtype)


@cache
def wgrad_points(stride: int) -> Tensor:
    """Return what maps the nine weights to the points at which their gradient is summed up.

    (36 or 81, 9) for a stride of 1 or 2; in bfloat16, too, the points are those of float32.
    """
    axis = _SIX if stride == 1 else _FIVE @ _DOWN
    return _pairs(axis, axis).float()


def _transformed(weight: Tensor, down: Tensor, across: Tensor, dtype: torch.dtype) -> Tensor:
    """Return weights (K, C, s, s) at the points where they are not all zero, rounded to `dtype`.

    `down` has a matrix (points, s) for each kind of row, `across` for each kind of column.
    """
    library = kernel()
    assert library is not None
    outputs, inputs = weight.shape[:2]
    panel, side = library.panel(outputs), _TOGETHER[dtype]
    there = _pairs(down, across)
    # Autocast, where a network learns in bfloat16, would round both factors first.
    with torch.autocast("cpu", enabled=False):
        points = there.float() @ weight.detach().reshape(outputs * inputs, -1).T
    panels = points.to(dtype).view(-1, outputs // panel, panel, inputs // side, side)
    return panels.permute(1, 0, 3, 2, 4).flatten()


def _pairs(down: Tensor, across: Tensor) -> Tensor:
    """Return what maps the weights (s, s), flat, to the points where they are not all zero."""
    pairs = torch.einsum("rpa,sqb->pqrsab", down, across).flatten(0, 3).flatten(1)
    return pairs[pairs.any(1)]
