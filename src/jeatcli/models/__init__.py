"""The networks: one file an architecture, all behind the same `Classifier`."""

from __future__ import annotations

from ._classifier import Classifier, Normalize, frozen
from ._guess import candidates
from ._quick import hasten, inner, quick
from ._shape import Shape, architectures, build

__all__ = [
    "Classifier",
    "Normalize",
    "Shape",
    "architectures",
    "build",
    "candidates",
    "frozen",
    "hasten",
    "inner",
    "quick",
]
