"""Adversarially robust energy-based classifiers: train, attack, sample, map and score them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import load
    from .classifier import classifier_scores
    from .config import TrainConfig
    from .errors import JeatError
    from .evaluate import attack
    from .foreign import Foreign
    from .generate import sample
    from .landscape import energy_landscape
    from .score import image_scores
    from .threat import Threat
    from .training import train

    __version__: str

# Where each public name lives; it is imported when it is asked for, since torch takes seconds.
# No name may be that of a file here: importing the file would put the module in its place.
_HOMES = {
    "Foreign": "foreign",
    "JeatError": "errors",
    "Threat": "threat",
    "TrainConfig": "config",
    "attack": "evaluate",
    "classifier_scores": "classifier",
    "energy_landscape": "landscape",
    "image_scores": "score",
    "load": "checkpoint",
    "sample": "generate",
    "train": "training",
}

__all__ = [
    "Foreign",
    "JeatError",
    "Threat",
    "TrainConfig",
    "attack",
    "classifier_scores",
    "energy_landscape",
    "image_scores",
    "load",
    "sample",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("jeat-cli")
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
