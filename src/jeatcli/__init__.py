"""Adversarially robust energy-based classifiers: train, attack, sample, map and score them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints.checkpoint import load as load
    from .checkpoints.settings import Foreign as Foreign
    from .checkpoints.wrapping import wrap as wrap
    from .core.threat import Threat as Threat
    from .errors import JeatError as JeatError
    from .landscapes.energies import energy as energy
    from .landscapes.landscape import energy_landscape as energy_landscape
    from .robustness.evaluate import attack as attack
    from .sampling.sample import sample as sample
    from .scoring.classifier_scores import classifier_scores as classifier_scores
    from .scoring.image_scores import image_scores as image_scores
    from .training.settings import TrainConfig as TrainConfig
    from .training.train import train as train

    __version__: str

# Where each public name lives; it is imported when it is asked for, since torch takes seconds.
# No name may be that of a file here: importing the file would put the module in its place.
_HOMES = {
    "Foreign": "checkpoints.settings",
    "JeatError": "errors",
    "Threat": "core.threat",
    "TrainConfig": "training.settings",
    "attack": "robustness.evaluate",
    "classifier_scores": "scoring.classifier_scores",
    "energy": "landscapes.energies",
    "energy_landscape": "landscapes.landscape",
    "image_scores": "scoring.image_scores",
    "load": "checkpoints.checkpoint",
    "sample": "sampling.sample",
    "train": "training.train",
    "wrap": "checkpoints.wrapping",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("jeat-cli")
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
