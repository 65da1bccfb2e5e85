"""Calls of the kernel as one, which takes Python hardly longer than one of them.

They are recorded of a few images, and made again of any number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_long, c_void_p, cast
from typing import Any

import torch
from torch import Tensor

from .after import FLAGS, Struct
from .kernel import kernel
from .layout import Layout, Recording
from .tape import Call

_TENSORS = [name for name, kind, *_ in Struct._fields_ if kind is c_void_p]
_NUMBERS = 5


class _Spot(Structure):
    _fields_ = (("block", c_long), ("address", c_void_p))


class _Call(Structure):
    """The same as the kernel reads it."""

    _fields_ = (
        ("function", c_void_p),
        ("is_convolution", c_long),
        ("spots", _Spot * (3 + len(_TENSORS))),
        ("flags", c_long * len(FLAGS)),
        ("numbers", c_long * _NUMBERS),
    )


class Plan:
    """Calls of any number of images, as they were made of some.

    Raises:
        Unknown: If something else has made a part of what they read.
    """

    def __init__(self, recording: Recording) -> None:
        calls, n, _, _, results = recording
        # Alive as long as their addresses are known, even if their numbers lie elsewhere by then.
        self._fixed = [each.detach() for each in recording.fixed]
        layout = Layout(recording)
        self._made = [(_of_image(each, n), each.dtype) for each in layout.made]
        self._room = layout.room
        self._found = [layout.blocks[each.data_ptr()] - 1 for each in results]
        self._calls = (_Call * len(calls))(*(_struct(call, n, layout) for call in calls))

    def run(self, n: int, given: Sequence[Tensor]) -> list[Tensor]:
        """Return the results of so many images, of which these are given."""
        tensors = [*given, *(_empty(n, *each) for each in self._made)]
        room = [_empty(n, (size,), torch.uint8) for size in self._room]
        blocks = [None, *(each.data_ptr() for each in (*tensors, *room))]
        library = kernel()
        assert library is not None
        addresses = (c_void_p * len(blocks))(*blocks)
        library.replay(self._calls, addresses, len(self._calls), n)
        return [tensors[number] for number in self._found]


def _of_image(tensor: Tensor, n: int) -> tuple[int, ...]:
    """Return the shape of an image's part: of images, or of memory side by side."""
    return tuple(tensor.shape[1:]) if tensor.dim() > 1 else (len(tensor) // n,)


def _empty(n: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    kind: Any = {"dtype": dtype, "device": "cpu"}  # whatever torch's default device is
    if len(shape) == 1:
        return torch.empty(n * shape[0], **kind)
    return torch.empty((n, *shape), **kind, memory_format=torch.channels_last)


def _struct(call: Call, n: int, layout: Layout) -> _Call:
    first, *others = call.numbers
    tensors = [call.x, call.weights, call.out, *(getattr(call.after, name) for name in _TENSORS)]
    spots = (_Spot * len(tensors))(*(_Spot(*layout.place(each)) for each in tensors))
    function = cast(getattr(kernel(), call.function), c_void_p)
    flags = (c_long * len(FLAGS))(*(getattr(call.after, name) for name in FLAGS))
    numbers = (c_long * _NUMBERS)(first // n, *others)
    return _Call(function, call.weights is not None, spots, flags, numbers)
