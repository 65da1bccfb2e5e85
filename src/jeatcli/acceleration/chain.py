"""Operations that the kernel computes one after the other, as one call of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .native.after import last
from .native.layout import Recording, Unknown
from .native.plan import Plan
from .native.tape import recorded
from .record import Record
from .steps import Affine, Convolve, Step, Unsuited

# Of so many images the calls are recorded: of one alone much lies side by side that otherwise does
# not, or has the shape of what all images share.
_TWO = 2
# So many kinds of images are known at once, and those alone that came last.
_KINDS = 16
_NEW = object()


class _Forward(NamedTuple):
    """The calls of a forward pass, and what they make."""

    plan: Plan
    names: list[str]
    kinds: Mapping[str, tuple[Sequence[int], torch.dtype]]  # an image's shape, and the type


class _Backward(NamedTuple):
    """The calls of a backward pass, by what there are gradients, and which have passed a ReLU."""

    plan: Plan
    names: list[str]
    cut: set[str]


class Part:
    """Operations in order, with what becomes of their results.

    Args:
        steps: The operations.
        ends: For each, the results that nothing reads after it.
        kept: The results that backward passes read.
    """

    def __init__(self, steps: Sequence[Step], ends: Sequence[list[str]], kept: set[str]) -> None:
        self.steps, self.ends, self.kept = steps, ends, kept

    def refresh(self) -> None:
        """Take note of new weights."""

    def forward(self, record: Record) -> None:
        """Keep the results that are read after these operations."""
        for step, ends in zip(self.steps, self.ends, strict=True):
            step.forward(record)
            self._end(record, ends)

    def backward(self, record: Record) -> None:
        """Turn the gradients by the results into those by what was given."""
        for step in reversed(self.steps):
            step.backward(record)

    def _end(self, record: Record, names: Iterable[str]) -> None:
        for name in names:
            if not record.wanted or name not in self.kept:
                del record.values[name]


class Chain(Part):
    """Operations of the kernel: one call of it, from the second time on.

    At first they are done one by one, of two images, which shows what there is to do for images of
    that shape. Where the kernel does not do it alone they are done one by one ever after.
    """

    def __init__(self, steps: Sequence[Step], ends: Sequence[list[str]], kept: set[str]) -> None:
        super().__init__(steps, ends, kept)
        # A normalisation is given what a convolution of an earlier chain has made of it.
        outs = [name for step in steps for name in _made(step)]
        given = dict.fromkeys(name for step in steps for name in step.inputs)
        self.inputs = {name: self._takes(name) for name in given if name not in outs}
        self.gone = [name for name in self.inputs if any(name in each for each in ends)]
        makers = [step.maker for step in steps if isinstance(step, Convolve) and step.maker]
        self.parties = dict.fromkeys([*steps, *makers])
        # What may have gradients, and what these are made with.
        before = (name for maker in makers for name in maker.inputs)
        self.outside = [name for name in dict.fromkeys([*self.inputs, *before]) if name not in outs]
        self.reached = [*dict.fromkeys([*(step.out for step in steps), *self.outside])]
        self.read = dict.fromkeys(name for step in self.parties for name in step.kept)
        self._forward: dict[object, _Forward | None] = {}
        self._backward: dict[object, _Backward | None] = {}
        self._addresses: list[int] = []
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        # The weights of a copy lie elsewhere.
        return {**vars(self), "_forward": {}, "_backward": {}, "_addresses": []}

    def refresh(self) -> None:
        addresses = [each.data_ptr() for each in self._weights()]
        if addresses != self._addresses:
            self._addresses, self._forward, self._backward = addresses, {}, {}

    def forward(self, record: Record) -> None:
        given = [_last(record.values[name], dtype) for name, dtype in self.inputs.items()]
        found: Any = None
        if n := _count(given):
            key = (record.wanted, *((each.shape[1:], each.dtype) for each in given))
            found = self._forward.get(key, _NEW)
            if found is _NEW:
                found = self._record_forward(given, record.wanted)
                self._forward = _with(self._forward, key, found)
        if found is None:
            super().forward(record)
            return
        record.values.update(zip(found.names, found.plan.run(n, given), strict=True))
        for name, (shape, dtype) in found.kinds.items():
            record.shapes[name], record.dtypes[name] = torch.Size((n, *shape)), dtype
        self._end(record, self.gone)

    def backward(self, record: Record) -> None:
        names = [name for name in self.reached if name in record.gradients]
        given = [_last(record.gradients[name]) for name in names]
        found: Any = None
        n = _count(given)
        outside = [(record.shapes.get(name, ()), name) for name in self.outside]
        if n and all(len(shape) == 4 and shape[0] == n for shape, _ in outside):
            given += [_last(record.values[name]) for name in self.read]
            kinds = [(shape[1:], record.dtypes.get(name)) for shape, name in outside]
            key = (*names, frozenset(record.cut.intersection(self.reached)), *kinds)
            found = self._backward.get(key, _NEW)
            if found is _NEW:
                found = self._record_backward(names, given, record)
                self._backward = _with(self._backward, key, found)
        if found is None:
            super().backward(record)
            return
        results = found.plan.run(n, given)
        for name in names:
            del record.gradients[name]
        record.gradients.update(zip(found.names, results, strict=True))
        record.cut |= found.cut

    def _record_forward(self, given: Sequence[Tensor], wanted: bool) -> _Forward | None:
        trial, images = Record(wanted=wanted), [_two(each, len(given[0])) for each in given]
        for name, each in zip(self.inputs, images, strict=True):
            trial.keep(name, each)
        try:
            with recorded() as calls:
                super().forward(trial)
            names = [name for name in trial.values if name not in self.inputs]
            results = [trial.values[name] for name in names]
            plan = Plan(Recording(calls, _TWO, images, [*self._weights()], results))
        except (Unknown, Unsuited):
            return None
        kinds = {
            name: (tuple(shape[1:]), trial.dtypes[name])
            for name, shape in trial.shapes.items()
            if name not in self.inputs
        }
        return _Forward(plan, names, kinds)

    def _record_backward(
        self, names: Sequence[str], given: Sequence[Tensor], record: Record
    ) -> _Backward | None:
        n = len(given[0])
        images = [_two(each, n) for each in given]
        read = dict(zip(self.read, images[len(names) :], strict=True))
        shapes = {
            name: torch.Size((_TWO, *shape[1:])) if shape[:1] == (n,) else shape
            for name, shape in record.shapes.items()
        }
        gradients = dict(zip(names, images, strict=False))
        trial = replace(record, values=read, shapes=shapes, gradients=gradients, cut={*record.cut})
        with recorded() as calls:
            super().backward(trial)
        try:
            found = [*gradients.values()]
            plan = Plan(Recording(calls, _TWO, images, [*self._weights()], found))
        except Unknown:
            return None
        return _Backward(plan, [*gradients], trial.cut.intersection(self.reached))

    def _weights(self) -> Iterator[Tensor]:
        """Yield what the kernel reads whatever the images."""
        for step in self.parties:
            if isinstance(step, Convolve):
                yield from step.swap.buffers()
                if step.swap.conv.bias is not None:
                    yield step.swap.conv.bias
            elif isinstance(step, Affine) and step.scale is not None and step.shift is not None:
                yield from (step.scale, step.shift)

    def _takes(self, name: str) -> torch.dtype | None:
        """Return the type in which all of them take a result, if it is the same."""
        types = set()
        for step in self.steps:
            if isinstance(step, Convolve) and name in step.inputs:
                types |= {step.swap.takes if step.x == name else step.swap.dtype}
        return types.pop() if len(types) == 1 else None


def _chained(step: Step) -> bool:
    """Return whether an operation may belong to a chain."""
    if isinstance(step, Convolve):
        return step.swap.is_kernel
    return isinstance(step, Affine) and step.is_made


def _made(step: Step) -> list[str]:
    """Return the results that an operation of a chain makes."""
    if not isinstance(step, Convolve):
        return []
    following = step.normalised
    return [step.out] if following is None else [step.out, following.out]


def _with(known: dict[object, Any], key: object, found: Any) -> dict[object, Any]:
    """Return one more kind; a new dictionary, as another thread may read the old."""
    return {**dict([*known.items()][1 - _KINDS :]), key: found}


def _last(value: Any, dtype: torch.dtype | None = None) -> Any:
    """Return images with the channels of a pixel side by side; anything else as it is."""
    return last(value, dtype) if isinstance(value, Tensor) and value.dim() == 4 else value


def _count(values: Sequence[Any]) -> int:
    """Return how many images there are, or 0 if these are not the same ones."""
    counts = {len(each) if isinstance(each, Tensor) and each.dim() == 4 else 0 for each in values}
    return counts.pop() if len(counts) == 1 else 0


def _two(tensor: Tensor, n: int) -> Tensor:
    """Return the part of the first of n images, twice."""
    first = tensor[: len(tensor) // n]
    two: Tensor = _last(torch.cat((first, first)))
    return two


def parts_of(steps: Sequence[Step], ends: Sequence[list[str]], kept: set[str]) -> Iterator[Part]:
    """Yield operations in order, those of the kernel that follow one another together."""
    for kernel, group in groupby(zip(steps, ends, strict=True), lambda each: _chained(each[0])):
        some, their = zip(*group, strict=True)
        yield (Chain if kernel else Part)(some, their, kept)
