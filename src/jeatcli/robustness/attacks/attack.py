"""An attack with its options, and those that are to be run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...core.models.classifier import Classifier
from ...errors import UsageProblem, unknown
from . import ATTACKS, ENSEMBLES, summaries
from .batch import Batch, Perturb, Plan
from .surrogate import Search

Unfit = Callable[[int, bool, Mapping[str, Any]], tuple[str, str] | None]


@dataclass(frozen=True)
class Attack:
    """One attack with its options.

    Args:
        name: Its file's, with dashes.
        perturb: Returns the moved images (n, C, H, W) of a batch.
        options: The keyword parameters of `perturb`, at the values to use.
        rows: How many rows of the network's batch an image takes.
        unfit: Returns why it cannot run and what can, for a number of classes, whether there is
            a class to reach, and its options; None where it can.
    """

    name: str
    perturb: Perturb
    options: dict[str, Any] = field(default_factory=dict)
    rows: int = 1
    unfit: Unfit | None = None

    def __call__(self, search: Search | Classifier, batch: Batch, plan: Plan) -> Tensor:
        """Return the moved images (n, C, H, W): in the ball and in [0, 1], detached."""
        if isinstance(search, Classifier):
            search = Search(search)
        moved: Tensor = self.perturb(search, batch, plan, **self.options)
        return moved


def make_attack(name: str, plan: Plan | None = None, **options: Any) -> Attack:
    """Return the attack called `name`; options that it has are taken from the plan.

    Raises:
        UsageProblem: If there is none, with the nearest name.
    """
    if name not in ATTACKS:
        raise unknown("attack", name, summaries())
    module = ATTACKS.load(name)
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(module.perturb).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    given = plan.options if plan else {}
    chosen = {key: given.get(key, value) for key, value in (known | options).items()}
    rows, unfit = getattr(module, "ROWS", 1), getattr(module, "unfit", None)
    return Attack(name, module.perturb, chosen, rows, unfit)


def parts(name: str) -> tuple[tuple[str, dict[str, Any]], ...] | None:
    """Return the parts of an ensemble, None for a single attack."""
    ensemble = ENSEMBLES.get(name)
    return ensemble.parts if ensemble else None


def resolve_attacks(names: Sequence[str], plan: Plan) -> list[Attack]:
    """Return the attacks to run: ensembles taken apart, options filled in, none twice.

    Raises:
        UsageProblem: If there is no such attack, or none of them has an option that is given.
    """
    chosen: list[Attack] = []
    for name in names:
        if (several := parts(name)) is None:
            chosen.append(make_attack(name, plan))
        else:
            chosen += [make_attack(part, None, **options) for part, options in several]
    single = [make_attack(name, plan) for name in names if parts(name) is None]
    for option in plan.options:
        if not any(option in attack.options for attack in single):
            raise _unused(option, names)
    different: list[Attack] = []
    for attack in chosen:
        if attack not in different:
            different.append(attack)
    return different


def _unused(option: str, names: Sequence[str]) -> UsageProblem:
    listed = " and ".join(f"`{name}`" for name in names)
    shown = option.replace("_", "-")
    if any(parts(name) for name in names):
        return UsageProblem(
            f"{listed} has no `--{shown}`: its parts are as published",
            "leave it out, or name the attacks one by one by `--attack`",
        )
    return UsageProblem(f"attack {listed} has no `--{shown}`", "leave it out")
