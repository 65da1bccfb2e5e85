"""Calls of the kernel: how they are made, and written down so that they can be made again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL, byref
from typing import NamedTuple

from torch import Tensor

from .after import After


class Call(NamedTuple):
    """One of a function that computes a convolution, or finishes one."""

    function: str
    x: Tensor
    weights: Tensor | None  # None where a convolution is finished
    out: Tensor | None  # None where only its second result is wanted
    after: After
    numbers: tuple[int, ...]  # the arguments after these, of which the first is for all images

    def make(self, library: CDLL) -> None:
        """Let the kernel compute the result."""
        result = self.x if self.out is None else self.out
        pointers = [self.x.data_ptr(), None if self.out is None else self.out.data_ptr()]
        if self.weights is not None:
            pointers.insert(1, self.weights.data_ptr())
        after = byref(self.after.struct(result))
        getattr(library, self.function)(*pointers, after, *self.numbers)
        if _tape.calls is not None:
            _tape.calls.append(self)


class _Tape(threading.local):
    calls: list[Call] | None = None


_tape = _Tape()


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Write down the calls of this thread, and keep what they read and write."""
    before, _tape.calls = _tape.calls, []
    try:
        yield _tape.calls
    finally:
        _tape.calls = before
