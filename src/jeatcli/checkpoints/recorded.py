"""The normalisations that a file has, among its weights, beside them, or in a file beside it."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..runtime.plain import parsed
from .described import configurations
from .header import INDEX_ENDING
from .unpickle import Array

Channels = tuple[float, ...]
Normalisation = tuple[Channels, Channels]  # empty if there is one whose numbers are not read

# How code calls a mean, a word such as `new_` or `data_` before it or `_rgb` behind it, and
# a deviation or what it is computed from, by the function that does.
_MEAN = r"(.*\.)?((\w+_)?_?)(means?|mu)((?:_?(?:rgb|bgr|channels?|pixels?|images?|values?))?)"
_SCALES: dict[Callable[[float], float], tuple[str, ...]] = {
    float: ("std", "stds", "sd", "sds", "sigma", "stddev"),
    lambda scale: 1 / scale: ("inv_std", "invstd", "istd", "std_inv", "inverse_std", "inv_sigma"),
    math.sqrt: ("var", "vars", "variance"),
}
# Of the weights' names, one is the measured variance of a layer.
_DEVIATIONS = [*_SCALES][:2]
# What has means and deviations that are not of pixels.
_OTHERS = r".*(acc|loss|metric|result|score|optim|sched|callback|history|init).*"
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?:\s*/\s*\d+(?:\.\d*)?)?"
_NUMBERS = rf"[\s\[({{]*{_NUMBER}(?:[\s,;]+{_NUMBER}){{0,3}}[\s\])}},;]*"
_TRANSFORM = re.compile(rf"mean\s*[=:]({_NUMBERS})[^\d]*?std\s*[=:]({_NUMBERS})", re.IGNORECASE)


def normalisations(tensors: Mapping[str, Tensor]) -> Iterator[tuple[set[str], Normalisation]]:
    """Yield the names and the values of each mean and standard deviation of channels."""
    for name, scale, deviation in _pairs(tensors):
        if deviation in _DEVIATIONS and tensors[name].numel() == tensors[scale].numel() <= 4:
            mean, scales = _channels(tensors[name]), _channels(tensors[scale])
            yield {name, scale}, (mean, _deviations(scales, deviation))


def recorded(content: object, depth: int = 4) -> Normalisation | None:
    """Return a mean and a standard deviation that stand beside the weights, as among settings.

    They are empty where they are named, and their numbers are not read: arrays of numpy's, words.
    """
    if isinstance(content, str):
        return _of_text(content, depth)
    if not depth:
        return None
    if isinstance(content, list | tuple):
        return next(filter(None, (recorded(each, depth - 1) for each in content[:100])), None)
    if not isinstance(content, Mapping):
        return None
    if found := _named(content):
        return found
    for key, value in content.items():
        if isinstance(key, str) and not re.fullmatch(_OTHERS, key.lower()):
            pair = _pair(value) if re.search("norm|stat", key.lower()) else None
            if found := pair or recorded(value, depth - 1):
                return found
    return None


def _named(settings: Mapping[Any, Any]) -> Normalisation | None:
    """Return what stands in a dictionary under the names of a mean and a deviation."""
    for name, scale, deviation in _pairs(settings):
        values = settings[name], settings[scale]
        if all(isinstance(value, Array) for value in values):
            return (), ()
        mean, scales = map(_channels, values)
        if mean and len(mean) == len(scales):
            std = _deviations(scales, deviation)
            numbers = all(isinstance(value, int | float) for value in values)
            if not numbers or _is_of_pixels(mean[0], std[0]):
                return mean, std
        elif all(isinstance(value, str) and value.strip() for value in values):
            return (), ()
    return None


def beside(path: Path) -> Iterator[tuple[str, object]]:
    """Yield what else tells of a file's weights: where it stands, and its content."""
    if path.name.endswith(INDEX_ENDING):
        yield path.name, parsed(path.read_bytes())
    else:
        try:
            with safe_open(path, "pt") as file:
                yield path.name, file.metadata()
        except (SafetensorError, OSError):  # a pickle
            pass
    yield from configurations(path)


def _pairs(named: Mapping[Any, Any]) -> Iterator[tuple[str, str, Callable[[float], float]]]:
    """Yield what may be the names of a mean and of a scale, and what makes it a deviation."""
    lower = {key.lower(): key for key in named if isinstance(key, str)}
    for key, name in lower.items():
        if found := re.fullmatch(_MEAN, key):
            for deviation, scales in _SCALES.items():
                for scale in scales:
                    other = f"{found[1] or ''}{found[2]}{scale}{found[5]}"
                    if other in lower:
                        yield name, lower[other], deviation


def _of_text(text: str, depth: int) -> Normalisation | None:
    """Return a normalisation out of JSON, or of what a transform is printed as."""
    if text.lstrip().startswith("{"):
        return recorded(parsed(text), depth - 1)
    if len(text) < 10_000 and (found := _TRANSFORM.search(text)):
        mean, std = map(_channels, found.groups())
        if mean and len(mean) == len(std):
            return mean, std
    return None


def _pair(value: object) -> Normalisation | None:
    """Return two lists of numbers for each channel, as `transforms.Normalize` takes them."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    mean, std = (_channels(each) if isinstance(each, list | tuple | str) else () for each in value)
    return (mean, std) if mean and len(mean) == len(std) else None


def _channels(value: object) -> Channels:
    """Return a number for each channel, or nothing if it is something else."""
    numbers = value.flatten().tolist() if isinstance(value, Tensor) else value
    if isinstance(numbers, str):
        numbers = _numbers(numbers)
    if isinstance(numbers, int | float) and not isinstance(numbers, bool):
        numbers = [numbers]
    if not isinstance(numbers, list | tuple) or not 1 <= len(numbers) <= 4:
        return ()
    return tuple(map(float, numbers)) if all(isinstance(n, int | float) for n in numbers) else ()


def _numbers(text: str) -> list[float]:
    """Return the numbers of a list that is written as text, fractions of 255 too."""
    if len(text) > 1000 or not re.fullmatch(_NUMBERS, text):
        return []
    found = []
    for number in re.findall(_NUMBER, text):
        above, _, below = number.partition("/")
        found.append(float(above) / (float(below) if below and float(below) else 1.0))
    return found


def _deviations(scales: Channels, deviation: Callable[[float], float]) -> Channels:
    """Return the standard deviations; those that cannot be are refused with the normalisation."""
    if deviation is float:
        return scales
    return tuple(deviation(scale) if scale > 0 else math.nan for scale in scales)


def _is_of_pixels(mean: float, std: float) -> bool:
    """Tell whether two numbers may be a normalisation, not how weights are drawn at first."""
    return std > 0 and mean >= 0 and not (mean == 0 and std < 0.1)
