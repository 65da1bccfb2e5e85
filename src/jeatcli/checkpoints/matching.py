"""Fitting a state dict to a network, name by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..core.models.layers import Shape
from .guess import candidates

# So many names of each kind are told: more hide the hint.
_TOLD = 20
# Names that other implementations give to the same layers.
_RENAMINGS = (
    (r"\bconv_shortcut\b", "convShortcut"),
    (r"\bdownsample\b", "shortcut"),
    (r"^fc\b", "linear"),
    (r"^linear\b", "fc"),
)
# A stage that TRADES' wide network has and does not use, and a second name that the first layer
# has in the checkpoint of Andriushchenko and Flammarion (2020).
_UNUSED = r"(sub_block1|model_preact_hl1)\."
# Counts of training steps, which nothing reads in eval mode.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Match:
    """How a state dict fits a network.

    Args:
        weights: Those that fit, by the network's names.
        missing: The network's names that it lacks.
        unexpected: Its names that the network has not.
        misshapen: Names with both shapes, in words.
    """

    weights: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    @property
    def fits(self) -> bool:
        """Whether nothing is left over on either side."""
        return not (self.missing or self.unexpected or self.misshapen)

    def describe(self) -> str:
        """Return what does not fit, a line for each kind."""
        kinds = {
            "missing": self.missing,
            "not known to it": self.unexpected,
            "of another shape": self.misshapen,
        }
        lines = []
        for kind, names in kinds.items():
            if names:
                rest = f", and {len(names) - _TOLD:,} more" if len(names) > _TOLD else ""
                lines.append(f"  {len(names):,} {kind}: {', '.join(names[:_TOLD])}{rest}")
        return "\n".join(lines)


def match(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Match:
    """Compare a state dict with that of a network, whose tensors may be without content."""
    tensors: dict[str, Tensor] = {}
    for key, value in found.items():
        if not re.match(_UNUSED, key) or key in expected:
            tensors[_renamed(key, expected)] = value
    shared = [key for key in tensors if key in expected]
    fitting = [key for key in shared if tensors[key].shape == expected[key].shape]
    return Match(
        {key: tensors[key] for key in fitting},
        [key for key in expected if key not in tensors and not key.endswith(_COUNTER)],
        [key for key in tensors if key not in expected],
        [
            f"{key} {_shape(tensors[key])} (not {_shape(expected[key])})"
            for key in shared
            if key not in fitting
        ],
    )


def guess(found: Mapping[str, Tensor], image: tuple[int, int, int] | None = None) -> list[str]:
    """Return, as options, the architectures that a state dict fits.

    Args:
        found: The state dict.
        image: Channels, height, width; by default those of CIFAR, with its own channels.
    """
    layers = [value for value in found.values() if value.ndim == 4]
    heads = [value for value in found.values() if value.ndim == 2]
    if not layers or not heads:
        return []
    like = Shape(image or (layers[0].shape[1], 32, 32), len(heads[-1]))
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    return [
        f"--arch {arch}" + (f" --norm-layer {norm_layer}" if norm_layer != "batch" else "")
        for arch, norm_layer, expected in candidates(shapes, like)
        if match(found, expected).fits
    ]


def _renamed(key: str, expected: Mapping[str, Tensor]) -> str:
    if key in expected:
        return key
    for pattern, ours in _RENAMINGS:
        if (name := re.sub(pattern, ours, key)) in expected:
            return name
    return key


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "of one number"
