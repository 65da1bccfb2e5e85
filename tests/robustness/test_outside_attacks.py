"""An attack, and an ensemble, added from outside the package through the table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.cli import done, here, one, refused
from helpers.runs import save_run

from jeatcli import JeatError, attack, wrap
from jeatcli.catalogue import Entry
from jeatcli.errors import UsageProblem
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


BAD = '''
import torch


def nothing(surrogate, batch, options):
    """Forget to return the images."""


def array(surrogate, batch, options):
    return batch.x.numpy()


def first(surrogate, batch, options):
    return batch.x[:1]


def double(surrogate, batch, options):
    return batch.x.double()


def in_place(surrogate, batch, options):
    return batch.x.fill_(0.5)
'''


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("nothing", "returned NoneType, not images as `batch.x`, 4x1x8x8 of float32 on cpu"),
        ("array", "returned ndarray, not images"),
        ("first", "returned 1x1x8x8 of float32 on cpu, not images"),
        ("double", "returned 4x1x8x8 of float64 on cpu, not images"),
        ("in_place", "left its ball"),  # of the images as they were
        ("absent", "the module `outside_bad` has no `absent`"),
    ],
)
def test_what_an_attack_must_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, words: str
) -> None:
    (tmp_path / "outside_bad.py").write_text(BAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS))
    ATTACKS.add("bad", AttackEntry("Bad", f"outside_bad:{function}", {}))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    model = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
    x = torch.rand(4, 1, 8, 8)
    y = model.classifier(x).argmax(1)
    with pytest.raises(JeatError) as caught:
        attack(model, images=x, labels=y, attacks="bad", eps=0.1)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_row_that_names_no_module() -> None:
    with pytest.raises(UsageProblem, match=r"there is no module `nowhere\.at_all`") as caught:
        Entry("Nothing", "nowhere.at_all:x").load()
    assert "`nowhere.at_all:x`" in caught.value.message


def test_a_module_that_a_row_names_may_lack_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside_needs.py").write_text("import nowhere_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        Entry("Nothing", "outside_needs:x").load()
