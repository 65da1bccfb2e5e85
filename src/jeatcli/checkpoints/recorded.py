"""The normalisations that a file has, among its weights or beside them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from .unpickle import Array

Channels = tuple[float, ...]

# How code calls a normalisation, a word such as `new_` or `data_` before both.
_MEAN, _STDS = r"(.*\.)?((\w+_)?_?)(means?|mu)", ("std", "stds", "sd", "sds", "sigma", "stddev")


def normalisations(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield the names of a mean and a standard deviation of channels, for each that there are."""
    for key, std in _pairs(tensors):
        if tensors[key].numel() == tensors[std].numel() <= 4:
            yield key, std


def recorded(content: object, depth: int = 4) -> tuple[Channels, Channels] | None:
    """Return a mean and a standard deviation that stand beside the weights, as among settings.

    They are empty if they are arrays of numpy's, whose numbers are not read.
    """
    if not isinstance(content, Mapping) or not depth:
        return None
    for names in _pairs(content):
        values = [content[name] for name in names]
        if all(isinstance(value, Array) for value in values):
            return (), ()
        mean, std = map(_channels, values)
        if mean and len(mean) == len(std):
            return mean, std
    inner = (recorded(value, depth - 1) for value in content.values())
    return next((found for found in inner if found), None)


def _pairs(named: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    """Yield what may be the names of a mean and a standard deviation."""
    for key in named:
        if isinstance(key, str) and (found := re.fullmatch(_MEAN, key)):
            for name in _STDS:
                std = f"{found[1] or ''}{found[2]}{name}"
                if std in named:
                    yield key, std


def _channels(value: object) -> Channels:
    """Return a number for each channel, or nothing if it is something else."""
    numbers = value.flatten().tolist() if isinstance(value, Tensor) else value
    if not isinstance(numbers, list | tuple) or not 1 <= len(numbers) <= 4:
        return ()
    return tuple(map(float, numbers)) if all(isinstance(n, int | float) for n in numbers) else ()
