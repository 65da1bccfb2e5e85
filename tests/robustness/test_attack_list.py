"""What names and options become, and what is refused, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from jeatcli.core.threat import Threat
from jeatcli.errors import UsageProblem
from jeatcli.robustness.attacks.attack import make_attack, resolve_attacks
from jeatcli.robustness.attacks.batch import AttackOptions

LINF = Threat("linf", 0.2)
OTHERS = "use `--attack autoattack-few`"
MARGIN = "use the objective `margin`"
KL = "attack `fgsm` starts at the image, where the gradient of `kl` is zero"
BESIDE = "use `--attack pgd --steps 1`, which starts beside it, or another objective"


@pytest.mark.parametrize(
    ("name", "objective", "classes", "targeted", "message", "hint"),
    [
        ("apgd-t", None, 3, False, "attack `apgd-t` needs 4 classes; there are 3", OTHERS),
        ("apgd-dlr", None, 2, False, "attack `apgd-dlr` needs 3 classes; there are 2", OTHERS),
        ("apgd-dlr", None, 3, True, "attack `apgd-dlr` needs 4 classes; there are 3", OTHERS),
        ("pgd", "dlr", 2, False, "objective `dlr` needs 3 classes; there are 2", MARGIN),
        ("pgd", "dlr", 3, True, "objective `dlr` needs 4 classes; there are 3", MARGIN),
        (
            "fab",
            None,
            9,
            True,
            "attack `fab` cannot target a class",
            "use `--attack fab-t`, alone or with others",
        ),
        ("fgsm", "kl", 9, False, KL, BESIDE),
    ],
)
def test_what_an_attack_cannot_do(
    name: str, objective: str | None, classes: int, targeted: bool, message: str, hint: str
) -> None:
    attack = make_attack(name, AttackOptions(LINF, objective))
    with pytest.raises(UsageProblem) as caught:
        attack.check(classes, targeted)
    assert caught.value.message == message
    assert caught.value.hint == hint
    # One class more, no class to reach, or another start: each of them is enough.
    if "classes" in message:
        attack.check(classes + 1, targeted)
    elif name == "fab":
        attack.check(classes, False)
    else:
        attack.check(classes, True)
        make_attack("pgd", AttackOptions(LINF, objective)).check(classes, False)


def test_a_step_size_that_follows_from_the_others_is_told_as_a_number() -> None:
    known = {"objective": "ce", "steps": 5, "restarts": 1}
    assert make_attack("pgd", steps=5).in_numbers(LINF) == {**known, "step_size": 0.1}
    given = make_attack("pgd", AttackOptions(LINF, step_size=0.3), steps=5)
    assert given.in_numbers(LINF) == {**known, "step_size": 0.3}
    assert make_attack("square").in_numbers(LINF) == {"queries": 5000, "restarts": 1}


@pytest.mark.parametrize(("name", "nearest"), [("pdg", "pgd"), ("autoatack", "autoattack")])
def test_an_attack_that_is_none(name: str, nearest: str) -> None:
    with pytest.raises(UsageProblem, match=f"unknown attack `{name}`") as caught:
        resolve_attacks([name], AttackOptions(LINF))
    assert f"did you mean `{nearest}`" in (caught.value.hint or "")


def test_options_go_to_the_attacks_that_have_them_and_not_into_ensembles() -> None:
    for names in (["square", "pgd"], ["pgd", "square"]):
        found = {
            each.name: each.options for each in resolve_attacks(names, AttackOptions(LINF, steps=7))
        }
        assert found["pgd"]["steps"] == 7
        assert found["square"] == {"queries": 5000, "restarts": 1}
    mixed = resolve_attacks(["autoattack", "pgd", "pgd", "apgd-t"], AttackOptions(LINF, steps=7))
    steps = [(each.name, each.options.get("steps")) for each in mixed]
    assert steps[:2] == [("apgd-ce", 100), ("apgd-t", 100)]
    assert steps[4:] == [("pgd", 7), ("apgd-t", 7)]
    assert len(resolve_attacks(["fast", "autoattack"], AttackOptions(LINF))) == 4


@pytest.mark.parametrize(
    ("names", "given", "message", "hint"),
    [
        (
            ["autoattack", "fgsm"],
            {"step_size": 0.1},
            "`autoattack` and `fgsm` has no `--step-size`: its parts run as published",
            "leave it out, or name the attacks one by one with `--attack`",
        ),
        (["square"], {"steps": 3}, "attack `square` has no `--steps`", "leave it out"),
    ],
)
def test_an_option_that_no_attack_has(
    names: list[str], given: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageProblem) as caught:
        resolve_attacks(names, AttackOptions(LINF, **given))
    assert (caught.value.message, caught.value.hint) == (message, hint)
