"""Weights that a file holds in parts: those of weight and spectral normalisation, and of pruning.

torch's `weight_norm`, `spectral_norm` and `prune` save what a layer's weight is computed from.
Each is computed here as its module does in evaluation mode, in float32 or float64.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..runtime.progress import Reporter
from .state_dict import StateDict

# Of the hooks of `torch.nn.utils`, and of its parametrizations.
_HOOK = re.compile(r"(.*)_(g|v|orig|u|mask)")
_PARAMETRIZATION = re.compile(r"(.*\.)?parametrizations\.(\w+)\.(original\d*|0\._[uv])")
_OF_ONE = r"(.*\.)?parametrizations\.(\w+)\..*"
# Both cosines multiplied: 1 at singular vectors, near 0 at others.
_ALIGNED = 0.5


def folded(found: StateDict, path: Path, reporter: Reporter) -> StateDict:
    """Return a file's weights as layers use them, without the parts that they are computed from."""
    whole = _computed(found.every)
    if not whole:
        return found
    counts: dict[str, int] = defaultdict(int)
    for kind, _, _ in whole.values():
        counts[kind] += 1
    listed = " and ".join(f"{count:,} of `{kind}`" for kind, count in counts.items())
    reporter.say(f"`{path.name}`: weights computed from their parts: {listed}")
    parts = {name for _, names, _ in whole.values() for name in names}

    def complete(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        plain = {name: tensor for name, tensor in tensors.items() if name not in parts}
        return plain | {name: weight for name, (_, _, weight) in whole.items()}

    return replace(found, tensors=complete(found.tensors), every=complete(found.every))


def _computed(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, list[str], Tensor]]:
    """Return what can be computed, by its name: of which kind, from which names, the weight."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for name in tensors:
        if re.fullmatch(_OF_ONE, name):
            found = _PARAMETRIZATION.fullmatch(name)
            whole = re.sub(_OF_ONE, r"\1\2", name)
            # What else there is makes it one that is not known.
            groups[whole][found[3] if found else name] = name
        elif found := _HOOK.fullmatch(name):
            groups[found[1]][found[2]] = name
    computed = {}
    for whole, names in groups.items():
        kind, compute = _KINDS.get(frozenset(names), ("", None))
        parts = [tensors[names[part]] for part in sorted(names)]
        if compute is None or whole in tensors or not all(map(_is_part, parts)):
            continue
        wide = torch.float64 if any(p.dtype == torch.float64 for p in parts) else torch.float32
        if (weight := compute(*(part.to(wide) for part in parts))) is not None:
            computed[whole] = kind, list(names.values()), weight
    return computed


def _is_part(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.dtype == torch.bool


def _weight_norm(size: Tensor, direction: Tensor) -> Tensor | None:
    """Return size * direction / its norm over all dimensions but one, which the sizes show."""
    if size.ndim == 0:
        return torch._weight_norm(direction, size, -1)
    for dim, length in enumerate(direction.shape):
        if size.shape == tuple(length if k == dim else 1 for k in range(direction.ndim)):
            return torch._weight_norm(direction, size, dim)
    return None


def _spectral_norm(weight: Tensor, u: Tensor, v: Tensor) -> Tensor | None:
    """Return weight / (u^T W v), W being the weight as a matrix with one dimension as its rows."""
    matrices = [
        weight.movedim(dim, 0).flatten(1)
        for dim in range(weight.ndim)
        if weight.ndim > 1 and (len(u), weight.numel()) == (weight.shape[dim], u.numel() * len(v))
    ]
    if not matrices or u.ndim != 1 or v.ndim != 1:
        return None
    # The file does not say which one, the second of transposed convolutions, the first of others:
    # of equal lengths it is the one of which u and v are singular vectors.
    aligned = [float(_cosine(u, each @ v) * _cosine(v, u @ each)) for each in matrices]
    best = aligned.index(max(aligned))
    chosen = matrices[best if aligned[best] > _ALIGNED else 0]
    return weight / torch.dot(u, torch.mv(chosen, v))


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(one, other, 0)


def _pruned(mask: Tensor, weight: Tensor) -> Tensor | None:
    return mask * weight if mask.shape == weight.shape else None


_Compute = Callable[..., Tensor | None]
# By the names of the parts, which come in their alphabetical order.
_KINDS: dict[frozenset[str], tuple[str, _Compute]] = {
    frozenset({"g", "v"}): ("weight_norm", _weight_norm),
    frozenset({"original0", "original1"}): ("weight_norm", _weight_norm),
    frozenset({"orig", "u", "v"}): ("spectral_norm", _spectral_norm),
    frozenset({"original", "0._u", "0._v"}): (
        "spectral_norm",
        lambda u, v, weight: _spectral_norm(weight, u, v),
    ),
    frozenset({"mask", "orig"}): ("prune", _pruned),
}
