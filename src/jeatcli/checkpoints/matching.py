"""Fitting a state dict to a network, name by name, and finding the networks that it fits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ..core.models import ARCHITECTURES, NORM_LAYERS, Shapes
from ..core.models.layers import Shape
from ..errors import UsageProblem
from .key_match import UNUSED, KeyMatch
from .state_dict import COUNTER

Tensors = Mapping[str, Tensor]

# Names that other implementations give to the same layers.
_RENAMINGS = (
    (r"\bconv_shortcut\b", "convShortcut"),
    (r"\bdownsample\b", "shortcut"),
    (r"^(fc|classifier|head|last_linear)\b", "linear"),
    (r"^(linear|classifier|head|last_linear)\b", "fc"),
    # Weight normalisation before torch had parametrizations, whose hook renames them, too.
    (r"(\w+)_g$", r"parametrizations.\1.original0"),
    (r"(\w+)_v$", r"parametrizations.\1.original1"),
)
# What is saved beside a network whose names have no prefix: losses, metrics, copies.
_BESIDE = (
    r"(criterion|loss|loss_fn|metrics?|teacher|(\w+_)?(ema|swa|averaged)(_\w+)?|avg_model"
    r"|(train|val|valid|test)_\w+)\."
)
_DEEPEST_PREFIX = 6
# What torch puts into the names of modules that it compiles, shards or recomputes.
_WRAPPERS = r"(^|\.)_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)(?=\.)"


def match(found: Tensors, expected: Tensors) -> KeyMatch:
    """Compare a state dict with that of a network, whose tensors may be without content.

    The network's names may have a prefix, as `module.` or `model.net.`. Of names outside of it
    losses, metrics, averages and copies are ignored; others may be a part of the function. Refuse
    a network that is there under several prefixes, with different weights.
    """
    own = _unwrapped(expected)
    keys = _match(_unwrapped(found), own)
    names = dict(zip(own, expected, strict=True))
    return replace(keys, weights={names[key]: value for key, value in keys.weights.items()})


def match_inside(found: Tensors, expected: Tensors) -> KeyMatch:
    """Compare a state dict with that of a network, which may lie in another module in the code.

    Of such a module, as one that returns the `logits` of what a library returns, all names begin
    with the same word, which those in the file may not have.
    """
    keys = match(found, expected)
    for outer in _outer(expected) if not keys.holds else ():
        inside = match(found, {key.removeprefix(outer): expected[key] for key in expected})
        if inside.fits:
            return replace(inside, weights={outer + key: v for key, v in inside.weights.items()})
    return keys


def _outer(expected: Tensors) -> Iterator[str]:
    """Yield what the names of all tensors begin with, word by word."""
    first = next(iter(expected), "").split(".")[:-1]
    for depth in range(1, len(first) + 1):
        outer = ".".join(first[:depth]) + "."
        # Of a single layer any other one may be taken for it.
        if all(key.startswith(outer) and "." in key.removeprefix(outer) for key in expected):
            yield outer


def _unwrapped(tensors: Tensors) -> Tensors:
    """Return tensors by their names without what torch put into these."""
    named: Tensors = {re.sub(_WRAPPERS, "", key).lstrip("."): tensors[key] for key in tensors}
    return tensors if len(named) < len(tensors) else named  # two names became one


def _match(tensors: Tensors, expected: Tensors) -> KeyMatch:
    matches = {
        prefix: _match_at(prefix, tensors, expected) for prefix in _prefixes(tensors, expected)
    }
    fitting = {prefix: each for prefix, each in matches.items() if each.holds}
    main = {prefix: each for prefix, each in fitting.items() if not re.match(_BESIDE, prefix)}
    fitting = main or fitting
    if not fitting:
        return max(matches.values(), key=lambda each: len(each.weights))
    chosen, *others = fitting.values()
    if not all(
        torch.equal(each.weights[k], v) for each in others for k, v in chosen.weights.items()
    ):
        listed = ", ".join(f"`{prefix.rstrip('.')}`" for prefix in sorted(fitting))
        raise UsageProblem(
            f"the file holds several such networks: {listed}", "choose one with `--entry`"
        )
    copies = tuple(
        prefix for prefix in matches if prefix != chosen.prefix and matches[prefix].holds
    )
    return replace(
        chosen,
        beside=[key for key in chosen.beside if not key.startswith(copies)],
        ignored=chosen.ignored + [key for key in chosen.beside if key.startswith(copies)],
    )


def _prefixes(tensors: Tensors, expected: Tensors) -> list[str]:
    """Return the prefixes below which the network's modules are, else the likeliest one."""
    children: dict[str, set[str]] = defaultdict(set)
    for key in tensors:
        parts = key.split(".")
        for depth in range(min(len(parts), _DEEPEST_PREFIX + 1)):
            children["".join(f"{part}." for part in parts[:depth])].add(parts[depth])
    needed = {key.partition(".")[0] for key in expected}

    def missing(prefix: str) -> int:
        return len(needed - {_renamed(name, needed) for name in children[prefix]})

    complete = [prefix for prefix in children if not missing(prefix)]
    return complete or [min(children, key=lambda prefix: (missing(prefix), len(prefix)))]


def _match_at(prefix: str, found: Tensors, expected: Tensors) -> KeyMatch:
    tensors: dict[str, Tensor] = {}
    ignored: list[str] = []
    beside: list[str] = []
    for key, value in found.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix):
            (ignored if _is_beside(_after(prefix, key), value) else beside).append(key)
        elif name not in expected and _is_beside(name, value, expected):
            ignored.append(key)
        else:
            ours = _renamed(name, expected)
            # Of two layers, of which the network has one, neither is the other's second name.
            tensors[name if ours in tensors or prefix + ours in found else ours] = value
    shared = [key for key in tensors if key in expected]
    fitting = [key for key in shared if tensors[key].shape == expected[key].shape]
    places = {_place(tensors[key]) for key in fitting}
    second = {  # names of those that fit, under which a module of ours has nothing
        key
        for key, value in tensors.items()
        if key not in expected and _place(value) in places and _leaves_by_name(key, expected)
    }
    filled = {_storage(expected[key]) for key in fitting if not expected[key].is_meta}
    return KeyMatch(
        {key: tensors[key] for key in fitting},
        [
            key
            for key, value in expected.items()
            if not (key in tensors or key.endswith(COUNTER) or _storage(value) in filled)
        ],
        [key for key in tensors if key not in expected and key not in second],
        [
            f"{key} {_shape(tensors[key])} (not {_shape(expected[key])})"
            for key in shared
            if key not in fitting
        ],
        ignored + [prefix + key for key in tensors if key in second],
        beside,
        prefix,
    )


def _place(tensor: Tensor) -> tuple[int, torch.Size]:
    """Return where a tensor lies in memory, the same for all names of one."""
    return tensor.data_ptr(), tensor.shape


def _storage(tensor: Tensor) -> tuple[object, ...]:
    """Return what two names of a network have in common if they share one tensor."""
    return *_place(tensor), tensor.stride(), tensor.dtype, tensor.device


def _after(prefix: str, key: str) -> str:
    """Return a name below the modules that it shares with a prefix."""
    for part in prefix.split("."):
        if not key.startswith(f"{part}."):
            break
        key = key.removeprefix(f"{part}.")
    return key


def _leaves_by_name(key: str, expected: Tensors) -> bool:
    """Tell whether a tensor that the network has is here under the name of another module.

    Of a number more in a sequence it would be one layer more, with shared weights.
    """
    parts = key.split(".")
    for depth in range(1, len(parts)):
        if not any(name.startswith(".".join(parts[:depth]) + ".") for name in expected):
            return not parts[depth - 1].isdigit()
    return False


def _is_beside(name: str, value: Tensor, expected: Tensors | None = None) -> bool:
    """Tell whether a tensor that the network does not know is no part of its function."""
    module = name.partition(".")[0]
    inside = any(key.partition(".")[0] == module for key in expected or ())
    counter = not inside and value.numel() == 1 and not value.is_floating_point()
    return counter or re.match(f"{UNUSED}|{_BESIDE}", name) is not None


def guess(
    found: Tensors, image: tuple[int, int, int] | None = None, rare: bool = False
) -> list[str]:
    """Return, as options, the architectures that a state dict fits; `rare` ones if they are asked.

    `image` is channels, height, width; by default those of CIFAR, with its own channels.
    """
    layers = [value for value in found.values() if value.ndim == 4]
    heads = [value for value in found.values() if value.ndim == 2]
    if not layers or not heads:
        return []
    fitting = []
    for classes in dict.fromkeys(len(head) for head in reversed(heads)):
        like = Shape(image or (layers[0].shape[1], 32, 32), classes)
        for arch, norm_layer, expected in _candidates(found, like, rare):
            if match(found, expected).holds:
                other = f" --norm-layer {norm_layer}" if norm_layer != "batch" else ""
                fitting.append(f"--arch {arch}{other}")
    return fitting


def _candidates(found: Tensors, like: Shape, rare: bool) -> Iterator[tuple[str, str, Tensors]]:
    """Yield each architecture and norm layer with the state dict that it has, without content."""
    batch = any(key.endswith(".running_mean") for key in found)
    norm_layers = [each for each in NORM_LAYERS if (each == "batch") == batch]
    for pattern, entry in ARCHITECTURES.items():
        if entry.rare and not rare:
            continue
        inferred = map(entry.numbers, _below_prefixes(found))
        numbers = next((each for each in inferred if each is not None), None)
        if numbers is None:
            continue
        left = iter(numbers)
        name = "-".join(str(next(left)) if word.isupper() else word for word in pattern.split("-"))
        for norm_layer in norm_layers:
            shape = replace(like, norm_layer=norm_layer)
            try:
                expected = _without_content(entry.load(), shape, tuple(numbers))
            except UsageProblem:
                break
            yield name, norm_layer, expected


# A process that loads several checkpoints asks for the same networks, which take 0.3 s to make.
@lru_cache(maxsize=64)
def _without_content(
    make: Callable[..., nn.Module], shape: Shape, numbers: tuple[int, ...]
) -> Tensors:
    with torch.device("meta"):
        return MappingProxyType(make(shape, *numbers).state_dict())


def _below_prefixes(found: Tensors) -> Iterator[Shapes]:
    """Yield the shapes by name, without a prefix and without each that wraps most names."""
    yield {key: tuple(value.shape) for key, value in found.items()}
    counts: dict[str, int] = defaultdict(int)
    for key in found:
        parts = key.split(".")
        for depth in range(1, min(len(parts), _DEEPEST_PREFIX)):
            counts[".".join(parts[:depth]) + "."] += 1
    for prefix, count in counts.items():
        if 3 * count > len(found):
            yield {
                key.removeprefix(prefix): tuple(value.shape)
                for key, value in found.items()
                if key.startswith(prefix)
            }


def _renamed(key: str, expected: Mapping[str, object] | set[str]) -> str:
    if key in expected:
        return key
    for pattern, ours in _RENAMINGS:
        if (name := re.sub(pattern, ours, key)) in expected:
            return name
    return key


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "of one number"
