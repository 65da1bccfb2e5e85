"""The attacks that `jeat attack` runs: one file an attack, each with a function `perturb`."""

from __future__ import annotations

from .. import registry
from ._base import Perturb, Plan

__all__ = ["Perturb", "Plan", "get"]


def get(name: str) -> Perturb:
    """Return the attack called `name`.

    Raises:
        UsageProblem: If there is none, with the nearest name.
    """
    perturb: Perturb = registry.get("attacks", name, "attack").perturb
    return perturb
