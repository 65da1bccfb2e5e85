"""An attack with its options, and the attacks that a list of names stands for."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ...catalogue import check_call
from ...core import objectives
from ...core.models.classifier import Classifier
from ...core.threat import Threat
from ...errors import JeatError, UsageProblem
from . import ATTACKS, ENSEMBLES, FEW, AttackEntry, unknown_attack
from .batch import AttackOptions, Batch
from .surrogate import Surrogate

# What to use under a norm that another attack does not know.
_ANY_NORM, _STRONGEST = ("apgd-ce", "apgd-t"), ("fab-t",)


@dataclass(frozen=True)
class Attack:
    """One attack with its options."""

    name: str  # in the table
    # The keyword parameters of its function, at the values to use.
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> AttackEntry:
        """Its row of the table."""
        return ATTACKS[self.name]

    @property
    def steps(self) -> int:
        """How many inner steps it takes at most, over all restarts."""
        steps: int = self.options.get("steps", self.options.get("queries", 1))
        return steps * int(self.options.get("restarts", 1))

    @property
    def passes(self) -> int:
        """How often it takes an image through the network at most."""
        return self.steps * self.entry.rows

    def __call__(
        self, surrogate: Surrogate | Classifier, batch: Batch, options: AttackOptions
    ) -> Tensor:
        """Return the moved images (n, C, H, W): in the ball and in [0, 1], detached.

        Raises:
            JeatError: If the attack, which may be the user's own, returns anything else.
        """
        if isinstance(surrogate, Classifier):
            surrogate = Surrogate(surrogate)
        settings = self.in_numbers(options.threat)
        # An attack that changes its images in place would be measured against what it made of them.
        given = replace(batch, x=batch.x.clone())
        search = self.entry.load()
        check_call(search, f"attack `{self.name}`", surrogate, given, options, **settings)
        moved: object = search(surrogate, given, options, **settings)
        if not isinstance(moved, Tensor) or _described(moved) != _described(batch.x):
            found = _described(moved) if isinstance(moved, Tensor) else type(moved).__name__
            raise JeatError(
                f"attack `{self.name}` returned {found}, not images as `batch.x`, "
                f"{_described(batch.x)}",
                "correct it if it is your own; otherwise please report it",
            )
        return moved

    def in_numbers(self, threat: Threat) -> dict[str, Any]:
        """Return the options, a step size that follows from the others as a number."""
        if self.options.get("step_size", 0) is None:
            return self.options | {"step_size": 2.5 * threat.eps / self.options["steps"]}
        return dict(self.options)

    def needed(self, targeted: bool) -> int:
        """Return the fewest classes that it takes."""
        return self.entry.min_targeted if targeted else self.entry.min_classes

    def check(self, classes: int, targeted: bool, norm: str | None = None) -> None:
        """Refuse what the attack cannot do.

        Raises:
            UsageProblem: Naming an attack or an objective that can.
        """
        entry, objective = self.entry, self.options.get("objective", "ce")
        objectives.check_classes(objective, classes, targeted)
        needed = self.needed(targeted)
        if classes < needed:
            raise UsageProblem(
                f"attack `{self.name}` needs {needed} classes; there are {classes}",
                f"use `--attack {FEW}`",
            )
        if targeted and not entry.targets:
            raise UsageProblem(
                f"attack `{self.name}` cannot target a class",
                "use `--attack fab-t`, alone or with others",
            )
        if norm and entry.norms and norm not in entry.norms:
            able = [f"`--attack {name}`" for name in _STRONGEST if norm in ATTACKS[name].norms]
            raise UsageProblem(
                f"attack `{self.name}` is for {', '.join(entry.norms)}, not for {norm}",
                f"use {', '.join([*(f'`--attack {name}`' for name in _ANY_NORM), *able])}",
            )
        if entry.from_image and objective == "kl" and not targeted:
            raise UsageProblem(
                f"attack `{self.name}` starts at the image, where the gradient of `kl` is zero",
                "use `--attack pgd --steps 1`, which starts beside it, or another objective",
            )


def _described(images: Tensor) -> str:
    kind = str(images.dtype).removeprefix("torch.")
    return f"{'x'.join(map(str, images.shape))} of {kind} on {images.device}"


def make_attack(name: str, options: AttackOptions | None = None, **changes: object) -> Attack:
    """Return the attack called `name`, with those of the options that it has.

    Raises:
        UsageProblem: If there is none, with the nearest name.
    """
    if name not in ATTACKS:
        raise unknown_attack(name)
    standard = {**ATTACKS[name].options, **changes}
    chosen = options.chosen if options else {}
    return Attack(name, {key: chosen.get(key, value) for key, value in standard.items()})


def for_classes(names: Sequence[str], classes: int) -> tuple[str, ...]:
    """Return the names; AutoAttack's is that for 2 or 3 classes where there are no more."""
    few = {name: each.few for name, each in ENSEMBLES.items() if each.few and classes < 4}
    return tuple(few.get(name) or name for name in names)


def resolve_attacks(
    names: Sequence[str],
    options: AttackOptions,
    classes: int | None = None,
    targeted: bool = False,
) -> list[Attack]:
    """Return the attacks to run: ensembles taken apart, options filled in, none twice.

    Of `autoattack-few` only the parts run that exist for so many classes.

    Raises:
        UsageProblem: If there is no such attack, or none of them has an option that is given.
    """
    attacks: list[Attack] = []
    unused = dict.fromkeys(options.chosen)
    for name in names:
        if ensemble := ENSEMBLES.get(name):
            here = ensemble.under.get(options.threat.norm, {})
            parts = [
                make_attack(part, None, **changes, **here.get(part, {}))
                for part, changes in ensemble.parts
            ]
            if name == FEW and classes is not None:
                parts = [part for part in parts if part.needed(targeted) <= classes]
        else:
            parts = [make_attack(name, options)]
            unused = {option: None for option in unused if option not in parts[0].options}
        attacks += [attack for attack in parts if attack not in attacks]
    for option in unused:
        listed = " and ".join(f"`{name}`" for name in names)
        flag = option.replace("_", "-")
        if any(name in ENSEMBLES for name in names):
            raise UsageProblem(
                f"{listed} has no `--{flag}`: its parts run as published",
                "leave it out, or name the attacks one by one with `--attack`",
            )
        raise UsageProblem(f"attack {listed} has no `--{flag}`", "leave it out")
    return attacks
