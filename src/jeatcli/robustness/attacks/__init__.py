"""The attacks that `jeat attack` runs, and the ensembles made of them, one row each."""

from __future__ import annotations

from dataclasses import dataclass

from ...catalogue import Catalogue, Entry


@dataclass(frozen=True)
class Ensemble:
    """Attacks that are run in turn.

    Args:
        summary: One line for the help.
        parts: Each attack, and its options where they are not its own defaults.
    """

    summary: str
    parts: tuple[tuple[str, dict[str, int]], ...]


ATTACKS = Catalogue(
    "attack",
    {
        "apgd-ce": Entry(
            "APGD on the cross-entropy, 100 steps (Croce and Hein 2020a)",
            "jeatcli.robustness.attacks.apgd_ce",
        ),
        "apgd-dlr": Entry(
            "APGD on the difference of logits ratio, 100 steps (Croce and Hein 2020a)",
            "jeatcli.robustness.attacks.apgd_dlr",
        ),
        "apgd-t": Entry(
            "APGD on the targeted ratio, toward the nine likeliest classes (Croce and Hein 2020a)",
            "jeatcli.robustness.attacks.apgd_t",
        ),
        "cw": Entry(
            "PGD on the margin of the logits, the loss of Carlini and Wagner (2017)",
            "jeatcli.robustness.attacks.cw",
        ),
        "fab": Entry(
            "FAB toward the nearest boundary of all classes (Croce and Hein 2020b)",
            "jeatcli.robustness.attacks.fab",
        ),
        "fab-t": Entry(
            "FAB toward each of the nine likeliest classes (Croce and Hein 2020b, 2020a)",
            "jeatcli.robustness.attacks.fab_t",
        ),
        "fgsm": Entry(
            "One full step from the image itself (Goodfellow et al. 2015)",
            "jeatcli.robustness.attacks.fgsm",
        ),
        "pgd": Entry(
            "Projected gradient ascent from random starts (Madry et al. 2018)",
            "jeatcli.robustness.attacks.pgd",
        ),
        "square": Entry(
            "Square Attack, 5,000 queries without gradients (Andriushchenko et al. 2020)",
            "jeatcli.robustness.attacks.square",
        ),
    },
)

ENSEMBLES: dict[str, Ensemble] = {
    "autoattack": Ensemble(
        "The standard AutoAttack: apgd-ce, apgd-t, fab-t, square (Croce and Hein 2020a)",
        (("apgd-ce", {}), ("apgd-t", {}), ("fab-t", {}), ("square", {})),
    ),
    "autoattack-plus": Ensemble(
        "AutoAttack with all its parts, those that are not targeted from five starts",
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
        "AutoAttack for classifiers that draw at random: gradients averaged over 20 draws",
        (("apgd-ce", {"draws": 20}), ("apgd-dlr", {"draws": 20})),
    ),
    "fast": Ensemble(
        "The first two parts of AutoAttack, apgd-ce and apgd-t: a preview, not AutoAttack",
        (("apgd-ce", {}), ("apgd-t", {})),
    ),
    "quick": Ensemble(
        "The first part of AutoAttack, apgd-ce: a first look, not AutoAttack",
        (("apgd-ce", {}),),
    ),
}


def summaries() -> dict[str, str]:
    """Return the attacks and the ensembles, with a summary of each."""
    ensembles = {name: ensemble.summary for name, ensemble in ENSEMBLES.items()}
    return dict(sorted((ATTACKS.summaries() | ensembles).items()))
