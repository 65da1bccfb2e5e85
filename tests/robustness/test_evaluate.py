"""Accuracy under attack against counts by hand; worst case, restarts, targets, batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers.training import run

from jeatcli.checkpoints import model as agenda
from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.core import pgd
from jeatcli.core.options import OBJECTIVES
from jeatcli.core.threat import Threat
from jeatcli.data.images import Images, load_images
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.robustness import evaluate
from jeatcli.robustness.attacks import ATTACKS
from jeatcli.robustness.attacks import pgd as pgd_attack
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.runtime.progress import Bar, Silent

SINGLE = list(ATTACKS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return an adversarially trained classifier of digits, good enough to be attacked."""
    folder = tmp_path_factory.mktemp("runs") / "at"
    return load(run(folder, "at", epochs=6, limit=0, batch_size=64).run)


@pytest.fixture(scope="module")
def images() -> Images:
    return load_images("digits", "test").first(100)


def everything(images: Images) -> Batch:
    return Batch(images.x / 255, images.y, None, torch.arange(len(images)))


def test_clean_and_robust_accuracy_are_those_counted_by_hand(model: Model, images: Images) -> None:
    result = evaluate.attack(model, num=100, steps=5, seed=3, exact=True)
    correct = model.classifier(images.x / 255).argmax(1) == images.y
    assert result.clean == correct.sum().item() / 100 == sum(result.samples["correct"]) / 100
    plan = AttackOptions(Threat("linf", 0.15), steps=5, seed=3)
    moved = make_attack("pgd", plan)(model.classifier, everything(images), plan)
    holds = model.classifier(moved).argmax(1) == images.y
    assert result.robust == pytest.approx((correct & holds).float().mean().item())
    assert 0 < result.robust < result.clean
    fallen = result.per_attack["pgd"]["broken"]
    assert fallen == sum(name == "pgd" for name in result.samples["broken_by"])
    assert (result.norm, result.eps, result.n) == ("linf", 0.15, 100)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", SINGLE)
def test_contract(name: str, norm: str, model: Model, images: Images) -> None:
    threat = Threat(norm, {"linf": 0.15, "l2": 0.6}[norm])
    plan = AttackOptions(threat, steps=10, restarts=2, queries=30)
    batch = everything(images)
    moved = make_attack(name, plan)(model.classifier, batch, plan)
    assert moved.shape == batch.x.shape
    assert (pgd.ball(plan.threat).distance(moved, batch.x) <= plan.threat.eps + 1e-6).all()
    assert ((moved >= 0) & (moved <= 1)).all()
    assert not moved.requires_grad
    clean = (model.classifier(batch.x).argmax(1) == batch.y).float().mean()
    assert (model.classifier(moved).argmax(1) == batch.y).float().mean() < clean


def test_the_result_is_the_worst_case_over_the_attacks(model: Model) -> None:
    each = [evaluate.attack(model, attacks=[name], num=100) for name in ("fgsm", "pgd")]
    both = evaluate.attack(model, attacks=["fgsm", "pgd"], num=100)
    robust = torch.tensor(
        [[name is None for name in one.samples["broken_by"]] for one in each]
    ).all(0)
    correct = torch.tensor(both.samples["correct"])
    assert both.robust == pytest.approx((robust & correct).float().mean().item())
    assert both.per_attack["fgsm"]["robust"] == each[0].robust


def test_restarts_only_ever_lower_the_accuracy(model: Model) -> None:
    once, thrice = (evaluate.attack(model, num=150, steps=3, restarts=k) for k in (1, 3))
    assert thrice.robust <= once.robust
    survivors = zip(once.samples["broken_by"], thrice.samples["broken_by"], strict=True)
    assert all(later == "pgd" for first, later in survivors if first == "pgd")


def test_the_result_does_not_depend_on_the_batches(model: Model) -> None:
    whole = evaluate.attack(model, num=100, restarts=2)
    parts = evaluate.attack(model, num=100, restarts=2, batch_size=7)
    assert whole.samples == parts.samples


def test_the_seed_decides_the_starts(model: Model) -> None:
    batch = everything(load_images("digits", "test").first(20))
    plans = [AttackOptions(Threat("linf", 0.15), steps=1, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (
        make_attack("pgd", plan)(model.classifier, batch, plan) for plan in plans
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_radius_leaves_the_clean_accuracy(model: Model) -> None:
    result = evaluate.attack(model, num=50, eps=0.0)
    assert result.robust == result.clean


def test_a_target_leaves_its_own_images_out(model: Model) -> None:
    result = evaluate.attack(model, num=100, target="3", objective="joint")
    threes = (load_images("digits", "test").first(100).y == 3).sum().item()
    assert result.n == 100 - threes
    assert result.target == "3"
    assert result.robust >= evaluate.attack(model, num=100).robust


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective(objective: str, model: Model) -> None:
    """Each breaks images, but E(x), which knows no label, need not."""
    result = evaluate.attack(model, num=40, steps=3, objective=objective)
    assert result.robust < result.clean or objective == "marginal"


def test_a_norm_without_a_radius_takes_the_customary_one(model: Model) -> None:
    assert evaluate.attack(model, num=10, norm="l2", steps=1).eps == 0.6


def test_an_attack_that_leaves_its_ball_is_caught(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgd_attack, "pgd", lambda surrogate, batch, *_, **__: batch.x + 0.4)
    with pytest.raises(JeatError, match="left its ball"):
        evaluate.attack(model, num=10)


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"attacks": ["pdg"]}, "unknown attack `pdg`", "did you mean `pgd`"),
        ({"objective": "jiont"}, "unknown objective", "did you mean `joint`"),
        ({"eps": 8}, "eps 8 under linf", "8/255"),
        ({"norm": "l7"}, "unknown norm `l7`", "l2"),
        ({"num": 10**6}, "there are not 1,000,000 test images, but 397", "`-n`"),
        ({"num": 0}, "`num` must be at least 1", ""),
        ({"num": 50, "only": 3}, "there are not 50 test images of class `3`, but 40", "`-n`"),
        ({"only": 3, "target": 3}, "all the images are of the target class", "choose two classes"),
        ({"only": "²"}, "unknown class `²`", "known"),
        ({"target": "dog"}, "unknown class `dog`", "known: 0, 1"),
        ({"steps": 0}, "`steps` must be at least 1", ""),
    ],
)
def test_bad_settings(model: Model, given: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        evaluate.attack(model, **given)
    assert message in str(caught.value)
    assert hint in (caught.value.hint or "")


def test_options_that_no_attack_has_are_refused(model: Model) -> None:
    cases: list[tuple[list[str], dict[str, Any]]]
    cases = [(["autoattack"], {"steps": 3}), (["cw"], {"objective": "ce"})]
    for names, given in cases:
        with pytest.raises(UsageProblem, match="has no `--"):
            evaluate.attack(model, attacks=names, **given)
    # One of several is enough: fgsm has no steps.
    assert evaluate.attack(model, attacks=["fgsm", "pgd"], steps=1, num=5).n == 5


def test_a_number_is_an_index_and_a_text_a_name_first() -> None:
    classes = ("1", "2", "3")
    assert [agenda.class_index(each, classes) for each in (0, 1, 2)] == [0, 1, 2]
    assert [agenda.class_index(each, classes) for each in ("1", "2", "3")] == [0, 1, 2]
    # An index beside names that are numbers could mean another class than the user's.
    for unknown in (3, "4", "0", "01"):
        with pytest.raises(UsageProblem, match="unknown class"):
            agenda.class_index(unknown, classes)


class Bars(Silent):
    """Keep what each bar is called and counts."""

    def __init__(self) -> None:
        self.bars: dict[str, tuple[int, list[float]]] = {}

    @contextmanager
    def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> Iterator[Bar]:
        counted = self.bars.setdefault(label, (total, []))[1]
        yield lambda amount, **figures: counted.append(amount)


def test_a_bar_of_nearest_images_does_not_call_the_others_robust(model: Model) -> None:
    said: set[str] = set()

    class Figures(Silent):
        @contextmanager
        def track(
            self, label: str, total: int, unit: str = "image", done: int = 0
        ) -> Iterator[Bar]:
            yield lambda amount, **figures: said.update(figures)

    settings: dict[str, Any] = {"steps": 2, "num": 20, "reporter": Figures()}
    evaluate.attack(model, attacks=["fmn"], minimum_norm=True, **settings)
    assert "unbroken" in said
    assert "robust" not in said


def test_a_bar_says_which_attack_runs_and_moves_with_its_steps(model: Model) -> None:
    bars = Bars()
    settings: dict[str, Any] = {"steps": 10, "restarts": 2, "queries": 30, "num": 60}
    names = ["pgd", "apgd-ce", "fab-t", "square"]
    evaluate.attack(model, attacks=names, **settings, reporter=bars)
    labels = [f"attack {name} ({k + 1} of 4)" for k, name in enumerate(names)]
    assert list(bars.bars) == ["clean accuracy", *labels]
    for total, counted in bars.bars.values():
        assert sum(counted) == pytest.approx(total)
    # All images are one batch: the bar moves within it.
    assert all(len(bars.bars[label][1]) > 10 for label in labels)
