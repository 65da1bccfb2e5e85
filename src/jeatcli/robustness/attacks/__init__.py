"""The table of attacks, and the ensembles made of them, one row each; no torch here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...catalogue import Catalogue, Entry
from ...errors import UsageProblem, unknown

# The targeted attacks of AutoAttack try the nine most likely classes (Croce and Hein 2020a).
TARGETS = 9
# MALT tries this many of the nearest ones.
NEAR_TARGETS = 3
# AutoAttack for 2 or 3 classes.
FEW = "autoattack-few"
# Attacks as papers and other libraries call them.
_ELSEWHERE = {"aa": "autoattack", "apgd": "apgd-ce", "bim": "pgd", "ifgsm": "pgd"}


@dataclass(frozen=True)
class AttackEntry(Entry):
    """A row of the table of attacks."""

    # The keyword parameters of the attack's function, at their standard values; None for a step
    # size of 2.5 eps / steps.
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 1  # rows of the network's batch that an image takes
    # The fewest classes that it takes, and `min_targeted` with a class to reach.
    min_classes: int = 2
    min_targeted: int = 2
    targets: bool = True  # whether it can aim at a class
    white_box: bool = True  # whether it uses gradients
    strong: bool = False  # whether it finds what there is on a network that masks no gradients
    uses_dlr: bool = False  # whether its loss is the difference of logits ratio
    # Whether it starts at the image, where some objectives have no gradient.
    from_image: bool = False
    norms: tuple[str, ...] = ()  # of which it knows the projections; empty for any
    # The options with which it looks for the adversarial image nearest to an image, beside its own;
    # None if it cannot.
    when_nearest: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Ensemble:
    """Attacks that run in turn."""

    summary: str  # one line for the help
    # Each attack, and its options where they are not its standard ones.
    parts: tuple[tuple[str, dict[str, Any]], ...]
    # Whether it is a part of AutoAttack that must not be reported as AutoAttack.
    preview: bool = False
    # The ensemble in its place where there are fewer than 4 classes; of that one, parts that need
    # more classes than there are do not run.
    few: str | None = None
    # By norm, the options of parts that differ there.
    under: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)


_HERE = "jeatcli.robustness.attacks"
# Under l1 APGD starts from five points, and toward five classes (Croce and Hein 2021).
_UNDER = {"l1": {"apgd-ce": {"restarts": 5}, "apgd-t": {"targets": 5}}}
_PGD = {"steps": 20, "step_size": None, "restarts": 1}
_APGD = {"steps": 100, "restarts": 1}
_KNOWN = ("linf", "l2", "l1")
# What the two attacks by the targeted ratio share, and the two forms of FAB.
_ratio = partial(AttackEntry, min_classes=4, min_targeted=4, strong=True, uses_dlr=True)
_fab = partial(AttackEntry, strong=True, norms=_KNOWN, when_nearest={"nearest": True})

ATTACKS = Catalogue(
    "attack",
    {
        "apgd-ce": AttackEntry(
            "APGD on the cross-entropy, 100 steps (Croce and Hein 2020a)",
            f"{_HERE}.apgd:apgd_ce",
            _APGD | {"draws": 1},
            strong=True,
        ),
        "apgd-dlr": AttackEntry(
            "APGD on the difference of logits ratio, 100 steps (Croce and Hein 2020a)",
            f"{_HERE}.apgd:apgd_dlr",
            _APGD | {"draws": 1},
            min_classes=3,
            min_targeted=4,
            strong=True,
            uses_dlr=True,
        ),
        "apgd-t": _ratio(
            "APGD on the targeted ratio, for the nine most likely classes (Croce and Hein 2020a)",
            f"{_HERE}.apgd:apgd_t",
            _APGD,
            rows=TARGETS,
        ),
        "cw": AttackEntry(
            "PGD on the margin of the logits, the loss of Carlini and Wagner (2017)",
            f"{_HERE}.pgd:cw",
            _PGD,
        ),
        "fab": _fab(
            "FAB toward the nearest boundary of all classes (Croce and Hein 2020b)",
            f"{_HERE}.fab:fab",
            _APGD,
            targets=False,
        ),
        "fab-t": _fab(
            "FAB toward each of the nine most likely classes (Croce and Hein 2020b, 2020a)",
            f"{_HERE}.fab:fab_t",
            _APGD,
            rows=TARGETS,
        ),
        "fgsm": AttackEntry(
            "One full step from the image itself (Goodfellow et al. 2015)",
            f"{_HERE}.pgd:fgsm",
            {"objective": "ce"},
            from_image=True,
        ),
        "fmn": AttackEntry(
            "FMN: the nearest adversarial image, by an adaptive radius (Pintor et al. 2021)",
            f"{_HERE}.fmn:fmn",
            {"steps": 100},
            strong=True,
            when_nearest={},
        ),
        "malt": _ratio(
            "APGD toward the three classes of nearest boundaries (Melamed et al. 2024)",
            f"{_HERE}.malt:malt",
            _APGD,
            rows=NEAR_TARGETS,
            norms=_KNOWN,
        ),
        "pgd": AttackEntry(
            "Projected gradient ascent from random starts (Madry et al. 2018)",
            f"{_HERE}.pgd:pgd",
            {"objective": "ce"} | _PGD,
        ),
        "square": AttackEntry(
            "Square Attack, 5,000 queries without gradients (Andriushchenko et al. 2020)",
            f"{_HERE}.square:square",
            {"queries": 5000, "restarts": 1},
            white_box=False,
            norms=_KNOWN,
        ),
    },
)

ENSEMBLES: dict[str, Ensemble] = {
    "autoattack": Ensemble(
        "The standard AutoAttack: apgd-ce, apgd-t, fab-t, square (Croce and Hein 2020a)",
        (("apgd-ce", {}), ("apgd-t", {}), ("fab-t", {}), ("square", {})),
        few=FEW,
        under=_UNDER,
    ),
    FEW: Ensemble(
        "AutoAttack for 2 or 3 classes: its parts that exist there; apgd-dlr needs 3",
        (("apgd-ce", {}), ("apgd-dlr", {}), ("fab-t", {}), ("square", {})),
        under=_UNDER,
    ),
    "autoattack-plus": Ensemble(
        "AutoAttack with all its parts, the untargeted ones from five starts",
        (
            ("apgd-ce", {"restarts": 5}),
            ("apgd-dlr", {"restarts": 5}),
            ("fab", {"restarts": 5}),
            ("square", {}),
            ("apgd-t", {}),
            ("fab-t", {}),
        ),
    ),
    "autoattack-rand": Ensemble(
        "AutoAttack for randomised classifiers: gradients averaged over 20 draws",
        (("apgd-ce", {"draws": 20}), ("apgd-dlr", {"draws": 20})),
    ),
    "fast": Ensemble(
        "The first two parts of AutoAttack, apgd-ce and apgd-t: a preview, not AutoAttack",
        (("apgd-ce", {}), ("apgd-t", {})),
        preview=True,
        under=_UNDER,
    ),
    "quick": Ensemble(
        "The first part of AutoAttack, apgd-ce: a first look, not AutoAttack",
        (("apgd-ce", {}),),
        preview=True,
        under=_UNDER,
    ),
}


def summaries() -> dict[str, str]:
    """Return the attacks and the ensembles, with a summary of each."""
    ensembles = {name: ensemble.summary for name, ensemble in ENSEMBLES.items()}
    return dict(sorted((ATTACKS.summaries() | ensembles).items()))


def unknown_attack(name: str) -> UsageProblem:
    """Build the error for an attack that there is not; `pgd-20` means PGD with 20 steps."""
    base = re.sub(r"[-_]?\d+$", "", name)
    steps = name[len(base) :].lstrip("-_")
    meant = _ELSEWHERE.get(base, base if base in ATTACKS else None)
    if meant and steps and "steps" in ATTACKS[meant].options:
        meant = f"--attack {meant} --steps {steps}"
    return unknown("attack", name, summaries(), meant)
