"""The weights of 3x3 convolutions at Winograd's points (Lavin and Gray 2016), as the kernel reads.

Along one axis a matrix maps the three weights to the points. With stride 1 it is that of F(4, 3),
in bfloat16 of F(2, 3). With stride 2 there are two of F(4, 2), in bfloat16 of F(2, 2): for the
pixels at odd positions, which the first and last weight multiply, and for those at even ones, which
the middle one does.
"""

from __future__ import annotations

import ctypes
from ctypes import byref
from functools import cache
from typing import Any, NamedTuple

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
    ]
)
_FOUR = torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]])
_SAME = {torch.float32: _SIX, torch.bfloat16: _FOUR}
# Two weights to five points: 0, 1, -1, 2 and infinity; and to three.
_FIVE = torch.tensor([[1 / 2, 0], [-1 / 2, -1 / 2], [-1 / 6, 1 / 6], [1 / 6, 1 / 3], [0, 1]])
_THREE = torch.tensor([[1.0, 0], [1, 1], [0, 1]])
_PAIR = {torch.float32: _FIVE, torch.bfloat16: _THREE}
# Which weights those two are: forward, (0, 2) at odd positions and (none, 1) at even ones;
# backward, (2, 0) at odd positions and (1, none) at even ones.
_DOWN = torch.tensor([[[1.0, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]]])
_UP = torch.tensor([[[0.0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 0, 0]]])
# How many numbers the nine weights of an input and an output become, by type and stride.
PRODUCTS = {torch.float32: {1: 36, 2: 81}, torch.bfloat16: {1: 16, 2: 25}}
_TO_POINTS = {torch.float32: "to_points", torch.bfloat16: "to_points_bf16"}


class _Struct(ctypes.Structure):
    """Points as the kernel reads them."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("down", "across", "slot")),
        *((name, ctypes.c_long) for name in ("output", "input", "row", "column")),
        *((name, ctypes.c_long) for name in ("side", "slots", "add")),
    )


class _Points(NamedTuple):
    """Where the weights of one kind of row and of column go."""

    down: Tensor  # (side, 3), the weights of a column to points
    across: Tensor  # (side, 3), those of a row
    slot: Tensor  # (side * side,), int32: the place of each point, -1 where all is zero
    slots: int  # places in all
    before: int  # those in what lies before

    def struct(self, weight: Tensor, add: bool = False) -> _Struct:
        """Return the pointers and numbers for weights (K, C, 3, 3) in any order in memory."""
        pointers = (each.data_ptr() for each in self[:3])
        return _Struct(*pointers, *weight.stride(), len(self.down), self.slots, add)


def forward_weights(
    weight: Tensor, stride: int, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """Return weights (K, C, 3, 3) for the forward pass, flat: K * C * PRODUCTS numbers.

    They fill `out`, if it is given.
    """
    return _at_points(weight, _forward(stride, dtype), PRODUCTS[dtype][stride], dtype, out)


def backward_weights(
    weight: Tensor, stride: int, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """Return weights (K, C, 3, 3) for the backward pass, flat; they fill `out`, if it is given."""
    turned, points = weight.transpose(0, 1), _backward(stride, dtype)
    return _at_points(turned, points, PRODUCTS[dtype][stride], dtype, out)


def weight_gradient(sums: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the gradient by weights (K, C, 3, 3), of what it is at the points of float32.

    `sums` are (36 or 81, C * K) for a stride of 1 or 2, one after the other in float32.
    """
    out, (outputs, inputs) = torch.empty_like(weight), weight.shape[:2]
    for number, points in enumerate(_forward(stride, torch.float32)):
        struct = points.struct(out, add=number > 0)
        given = sums.data_ptr(), byref(struct), out.data_ptr()
        _function("from_points")(*given, inputs, outputs)
    return out


def point_weights(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return weights (K, C, 1, 1) for a convolution of 1x1, flat; turned, for its backward pass."""
    library = kernel()
    assert library is not None
    outputs, inputs = weight.shape[:2]
    panel, side = library.panel(outputs), 2 if dtype is torch.bfloat16 else 1
    panels = weight.detach().to(dtype).reshape(outputs // panel, panel, inputs // side, side)
    return panels.permute(0, 2, 1, 3).flatten()


def _at_points(
    weight: Tensor, kinds: list[_Points], products: int, dtype: torch.dtype, out: Tensor | None
) -> Tensor:
    if weight.dtype is not torch.float32:
        raise TypeError(f"weights must be float32, not {weight.dtype}")
    outputs, inputs = weight.shape[:2]
    if out is None:
        out = weight.new_empty(products * outputs * inputs, dtype=dtype)
    for points in kinds:
        place = out.data_ptr() + points.before * outputs * inputs * out.element_size()
        given = weight.data_ptr(), byref(points.struct(weight)), place
        _function(_TO_POINTS[dtype])(*given, inputs, outputs)
    return out


def _function(name: str) -> Any:
    return getattr(kernel(), name)


@cache
def _forward(stride: int, dtype: torch.dtype) -> list[_Points]:
    """Return the points of the forward pass, and of the gradient by the weights.

    With a stride of 2, those of odd and even rows and columns lie side by side at each point.
    """
    axes = _SAME[dtype][None] if stride == 1 else _product(_PAIR[dtype], _DOWN)
    there = axes.bool().any(2).T  # at each point, for each kind of row or column
    both = there[:, None, :, None] & there[None, :, None, :]
    slots = both.flatten().cumsum(0).sub(1).view(both.shape).masked_fill(~both, -1).int()
    of_kind = slots.flatten(0, 1).permute(1, 2, 0).contiguous()
    return [
        _Points(down, across, of_kind[i, j], int(both.sum()), 0)
        for i, down in enumerate(axes)
        for j, across in enumerate(axes)
    ]


@cache
def _backward(stride: int, dtype: torch.dtype) -> list[_Points]:
    """Return the points of the backward pass; with a stride of 2, kind follows kind."""
    axes = _SAME[dtype].flip(1)[None] if stride == 1 else _product(_PAIR[dtype], _UP)
    found, before = [], 0
    for down in axes:
        for across in axes:
            both = down.bool().any(1)[:, None] & across.bool().any(1)[None]
            slot = both.flatten().cumsum(0).sub(1).masked_fill(~both.flatten(), -1).int()
            found.append(_Points(down, across, slot, int(both.sum()), before))
            before += found[-1].slots
    return found


def _product(pair: Tensor, kinds: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):  # which would round it, and make it bfloat16
        return pair @ kinds
