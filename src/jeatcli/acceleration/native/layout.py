"""In which blocks of memory lies what calls of the kernel read and write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from .tape import Call

# What `After` has for the kernel to fill; it reads the others.
_FILLED = ("too", "positive")


class Unknown(Exception):
    """Something else has made a part of what the calls read, or they have changed it in place."""


class Recording(NamedTuple):
    """What was done for some images."""

    calls: Sequence[Call]  # as they were made
    n: int  # of so many images
    given: Sequence[Tensor]  # what they read of these, of which each has as much memory
    fixed: Sequence[Tensor]  # what they read whatever the images
    results: Sequence[Tensor]  # what is wanted of what they have made, or been given


class Layout:
    """The blocks: 0 is none, then come those given, those that result, and room for the others.

    What nothing reads any more leaves its room to what is made after.

    Attributes:
        blocks: By address, the number of the block.
        made: What results and is not given, in the order of the blocks.
        room: How many bytes an image the blocks after these have.

    Raises:
        Unknown: If the calls are not all that was done.
    """

    def __init__(self, recording: Recording) -> None:
        calls, n, given, fixed, results = recording
        self.blocks = {each.data_ptr(): number for number, each in enumerate(given, 1)}
        made = {each.data_ptr(): each for each in results if each.data_ptr() not in self.blocks}
        self.made = [*made.values()]
        self.room: list[int] = []
        self._free: list[int] = []
        self._fixed = {each.data_ptr(): each for each in fixed}
        self._sizes = {each.data_ptr(): each.nbytes for each in (*given, *self._fixed.values())}
        places = {address: number for number, address in enumerate(made, len(given) + 1)}
        last = {each.data_ptr(): number for number, call in enumerate(calls) for each in used(call)}
        first_room = 1 + len(given) + len(made)
        for number, call in enumerate(calls):
            self._check(call)
            for each in written(call):
                address, size = each.data_ptr(), each.nbytes
                self._sizes[address] = size
                block = places.get(address) or first_room + self._take(size // n)
                self.blocks[address] = block
            for address in {each.data_ptr() for each in used(call)}:
                if last[address] == number and self.blocks.get(address, 0) >= first_room:
                    self._free.append(self.blocks[address] - first_room)
        if not places.keys() <= self.blocks.keys():
            raise Unknown

    def place(self, tensor: Tensor | None) -> tuple[int, int | None]:
        """Return the block of a tensor, or its address if it is there for all images."""
        if tensor is None:
            return 0, None
        address = tensor.data_ptr()
        return (0, address) if address in self._fixed else (self.blocks[address], None)

    def _check(self, call: Call) -> None:
        """Find all that it reads, whole, and nothing that it writes."""
        for each in read(call):
            if self._sizes.get(each.data_ptr()) != each.nbytes:
                raise Unknown
        if any(each.data_ptr() in self._sizes for each in written(call)):
            raise Unknown

    def _take(self, size: int) -> int:
        """Return the number of the room for so many bytes an image, of the free one that fits."""
        large = [each for each in self._free if self.room[each] >= size]
        if large:
            best = min(large, key=self.room.__getitem__)
        elif self._free:
            best = max(self._free, key=self.room.__getitem__)
            self.room[best] = size
        else:
            self.room.append(size)
            return len(self.room) - 1
        self._free.remove(best)
        return best


def read(call: Call) -> Iterator[Tensor]:
    """Yield what a call reads."""
    after = call.after._asdict().items()
    rest = (each for name, each in after if name not in _FILLED)
    yield from _tensors(call.x, call.weights, *rest)


def written(call: Call) -> Iterator[Tensor]:
    """Yield what a call writes."""
    yield from _tensors(call.out, *(getattr(call.after, name) for name in _FILLED))


def used(call: Call) -> Iterator[Tensor]:
    """Yield both."""
    yield from read(call)
    yield from written(call)


def _tensors(*values: object) -> Iterator[Tensor]:
    return (each for each in values if isinstance(each, Tensor))
