"""An attack, and an ensemble, added from outside the package through the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import done, here, one, refused
from helpers.runs import save_run

from jeatcli.robustness.attacks import ATTACKS, ENSEMBLES, AttackEntry, Ensemble

MODULE = '''
"""Brighten or darken every image as far as the ball allows."""

from jeatcli.core import pgd


def brightness(surrogate, batch, options, *, signs):
    ball = pgd.ball(options.threat)
    moved = batch.x
    for sign in range(signs):
        surrogate.on_step()
        shifted = ball.project(batch.x + (1 - 2 * sign), batch.x).clamp(0, 1)
        broken = surrogate.broken(batch, shifted, surrogate(shifted))
        moved = moved.where(~broken.view(-1, 1, 1, 1), shifted)
    return moved
'''


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_attack.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    entry = AttackEntry(
        "Brighten or darken", "outside_attack:brightness", {"signs": 2}, white_box=False
    )
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS))
    ATTACKS.add("brightness", entry)
    parts = (("brightness", {"signs": 1}), ("fgsm", {}))
    monkeypatch.setitem(ENSEMBLES, "mine", Ensemble("Two attacks", parts, preview=True))


@pytest.mark.usefixtures("added")
def test_an_attack_and_an_ensemble_from_outside_are_listed_and_run() -> None:
    save_run("model", gain=2.0)
    few = ("attack", "model", "-n", 100, "--eps", 0.5, "--norm", "linf")
    found = one(*few, "--attack", "brightness")
    assert found["per_attack"]["brightness"]["signs"] == 2
    assert found["per_attack"]["brightness"]["forward"] > 0
    assert found["robust"] == found["clean"] - found["per_attack"]["brightness"]["broken"] / 100
    both = one(*few, "--attack", "mine")
    assert list(both["per_attack"]) == ["brightness", "fgsm"]
    assert both["per_attack"]["brightness"]["signs"] == 1
    shown = done("attack", "--help")
    assert "brightness" in shown
    assert "Two attacks" in shown
    refused(here("attack", "model", "--attack", "brigthness"), 2, "did you mean `brightness`")
    assert "mine (a part of AutoAttack, not AutoAttack)" in done(*few, "--attack", "mine")
