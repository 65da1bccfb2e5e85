"""What the kernel does to a result while it is in registers, and not in passes over memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

_NAMES = ("bias", "residual", "cut", "slope", "scale", "more", "scale_too", "shift_too", "too")
_BITS = ("mask", "positive")
FLAGS = ("relu", "silu", "keep_slope")
_LAST = torch.channels_last


class Struct(ctypes.Structure):
    """The same as the kernel reads it."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in (*_NAMES, *_BITS)),
        *((name, ctypes.c_long) for name in FLAGS),
    )


class After(NamedTuple):
    """What follows a convolution, in this order; tensors of channels are float32.

    Forward it adds, and cuts off what is negative. Backward, where the convolution's input is an
    activation of a normalised `u`, it makes the gradient by `u` of that by the input.
    """

    bias: Tensor | None = None  # (K,), added
    residual: Tensor | None = None  # as the result (n, K, H, W), added
    cut: Tensor | None = None  # as the result: where it is not positive, the result becomes zero
    slope: Tensor | None = None  # as the result, multiplied: that of a SiLU
    scale: Tensor | None = None  # (K,), multiplied
    more: Tensor | None = None  # as the result, added to the product
    scale_too: Tensor | None = None  # (K,), of a second result, the ReLU of a multiple and a sum
    shift_too: Tensor | None = None  # (K,), there where `scale_too` is
    too: Tensor | None = None  # where the second result goes, as the result
    # Of `bits_as` the result's shape: where a bit is 0, the result becomes zero, as by `cut`; and
    # where those of the last ReLU go, that of `too` if there is one.
    mask: Tensor | None = None
    positive: Tensor | None = None
    relu: bool = False  # whether what is negative becomes zero, after the residual
    # Whether the activation is SiLU: it makes the second result. Backward `slope` is multiplied, or
    # the slope at `cut`, or at its multiple and the sum.
    silu: bool = False
    keep_slope: bool = False  # whether the first result becomes the slope of that SiLU

    def last(self) -> After:
        """Return the same with the channels of pixels side by side."""
        names = ("residual", "cut", "slope", "more")
        found = {name: getattr(self, name) for name in names}
        turned: Any = {name: last(each) for name, each in found.items() if each is not None}
        return self._replace(**turned) if turned else self

    def struct(self, result: Tensor) -> Struct:
        """Return the pointers; the tensors of pixels are as the result, their channels last."""
        shape, dtype = result.shape, result.dtype
        for each in (self.residual, self.cut, self.slope, self.more, self.too):
            if each is not None:
                assert each.shape == shape
                assert each.dtype is dtype
                assert is_last(each)
        for each in (self.mask, self.positive):
            if each is not None:
                assert each.numel() * 8 == result.numel()
        tensors = cast("tuple[Tensor | None, ...]", self[: len(_NAMES) + len(_BITS)])
        pointers = (None if each is None else each.data_ptr() for each in tensors)
        return Struct(*pointers, self.relu, self.silu, self.keep_slope)


NOTHING = After()


def last(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return images with the channels of a pixel side by side, in that type if one is given."""
    if dtype is not None and x.dtype is not dtype:
        x = x.to(dtype)
    if x.dim() != 4:
        return x.contiguous()
    # Asked first, which is ten times as fast.
    return x if is_last(x) else x.contiguous(memory_format=_LAST)


def empty_as(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return uninitialised images of that shape, channels last, of the type of others."""
    form = _LAST if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=form)


def bits_as(shape: Sequence[int], device: torch.device) -> Tensor:
    """Return uninitialised memory of a bit for each number of images (n, C, H, W), channels last.

    The kernel's channels are a multiple of 8.
    """
    return torch.empty(math.prod(shape) // 8, dtype=torch.uint8, device=device)


def is_last(x: Tensor) -> bool:
    """Return whether the channels of images (n, C, H, W) lie side by side."""
    return x.dim() == 4 and x.is_contiguous(memory_format=_LAST)
