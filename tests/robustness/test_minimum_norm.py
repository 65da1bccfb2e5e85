"""The smallest radius that breaks each image."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import done, here, one, refused
from helpers.linear_model import SHAPE, Linear, batch, distances, linear
from helpers.runs import load_run, save_run
from torch import Tensor

from jeatcli import wrap
from jeatcli.cli.attack_report import report
from jeatcli.core import pgd
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.threat import Threat
from jeatcli.robustness import evaluate, evaluator, minimum_norm
from jeatcli.robustness.attacks import ATTACKS
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions
from jeatcli.robustness.attacks.surrogate import Surrogate
from jeatcli.robustness.compare import Comparison
from jeatcli.robustness.result import Robustness

EVERYTHING = {"linf": 1.0, "l2": 4.0}
NEAREST = {"fmn": {}, "fab": {"nearest": True}, "fab-t": {"nearest": True}}


@pytest.mark.parametrize("norm", EVERYTHING)
@pytest.mark.parametrize("name", NEAREST)
def test_it_is_the_closed_form_of_a_linear_model(name: str, norm: str) -> None:
    model = linear(gain=3.0)
    images = batch(model)
    attack = make_attack(name, **NEAREST[name])
    moved = attack(model, images, AttackOptions(Threat(norm, EVERYTHING[norm])))
    assert (model(moved).argmax(1) != images.y).all()
    flat = (moved - images.x).flatten(1)
    away = flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)
    exact = distances(model, images, norm)
    assert (away >= exact - 1e-6).all()
    # FAB crosses the boundary by a twentieth.
    assert (away / exact).median() < (1.01 if name == "fmn" else 1.06)


class Waves(Linear):
    """Of which the first boundary that is met is not the nearest."""

    def head(self, features: Tensor) -> Tensor:
        return super().head(torch.sin(3 * features))


@pytest.mark.parametrize("norm", EVERYTHING)
@pytest.mark.parametrize("name", ["fab", "fab-t"])
def test_fab_goes_on_from_the_first_it_finds(name: str, norm: str) -> None:
    model = Classifier(Waves(), (0.0,), (1.0,))
    images, options = batch(model), AttackOptions(Threat(norm, EVERYTHING[norm]))
    ball = pgd.ball(options.threat)
    first, nearest = (
        ball.distance(make_attack(name, nearest=on)(model, images, options), images.x)
        for on in (False, True)
    )
    assert (nearest > 0).all()
    assert (nearest <= first + 1e-6).all()
    assert (nearest < 0.95 * first).sum() > 20


def test_the_evaluation_lets_fab_go_on_to_the_nearest() -> None:
    model = Classifier(Waves(), (0.0,), (1.0,))
    images, options = batch(model), AttackOptions(Threat("l2", EVERYTHING["l2"]))
    moved = make_attack("fab", nearest=True)(model, images, options)
    exact = pgd.ball(options.threat).distance(moved, images.x)
    found = evaluate.attack(
        wrap(model, classes=5, shape=SHAPE, mean=0, std=1),
        images=images.x,
        labels=images.y,
        attacks=["fab"],
        minimum_norm=True,
        norm="l2",
        exact=True,
    )
    assert found.samples["distance"] == pytest.approx(exact.tolist(), rel=1e-4)


@pytest.mark.parametrize("norm", EVERYTHING)
def test_fmn_keeps_to_the_ball(norm: str) -> None:
    model = linear(gain=3.0)
    images = batch(model)
    exact = distances(model, images, norm)
    eps = exact.median().item()
    moved = make_attack("fmn")(model, images, AttackOptions(Threat(norm, eps)))
    broken = model(moved).argmax(1) != images.y
    assert torch.equal(moved[~broken], images.x[~broken])
    assert abs(broken.double().mean() - 0.5) < 0.1


@pytest.mark.parametrize("norm", EVERYTHING)
def test_fmn_goes_back_to_the_boundary(norm: str) -> None:
    model = linear(gain=3.0)
    images = batch(model)
    exact = distances(model, images, norm)
    # Few steps leave the iterates well beyond the boundary.
    options = AttackOptions(Threat(norm, EVERYTHING[norm]), steps=4)
    search = Surrogate(model)
    moved = make_attack("fmn", options)(search, images, options)
    broken = model(moved).argmax(1) != images.y
    assert broken.sum() > 20
    change = moved - images.x
    short = images.x + 0.99 * change
    assert (model(short).argmax(1) == images.y)[broken].all()
    away = change.flatten(1).abs().amax(1) if norm == "linf" else change.flatten(1).norm(dim=1)
    assert (away >= exact - 1e-6)[broken].all()
    # A forward pass with a gradient a step, and eight without one.
    assert search.backward == 4 * len(images)
    assert search.forward == search.backward + 8 * broken.sum()


def test_images_that_are_floats_stay_as_they_are() -> None:
    """They are not the tensor into which the attacked images are written."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    model = wrap(net, mean=0, std=0.2, classes=3, shape=(1, 8, 8))
    pixels = torch.randint(50, 200, (40, 1, 8, 8), dtype=torch.uint8)
    labels = model.classifier(pixels / 255).argmax(1)
    settings = {"labels": labels, "norm": "l2", "eps": 0.1, "minimum_norm": True}
    attacks = ["fmn", "fab-t"]  # the second starts from the images, too
    of_bytes, of_floats = (
        evaluate.attack(model, images=images, attacks=attacks, **settings)
        for images in (pixels, pixels / 255)
    )
    assert min(of_floats.samples["distance"]) > 0
    assert of_floats.samples == of_bytes.samples


def test_every_attack_that_looks_for_the_nearest_is_tested() -> None:
    able = {name for name, entry in ATTACKS.items() if entry.when_nearest is not None}
    assert able == set(NEAREST)


def test_the_result_is_the_distribution(tmp_path: Path) -> None:
    path = save_run("model", gain=2.0)
    ask = ("attack", "model", "-n", 30, "--minimum-norm", "--attack", "fmn", "--attack", "fab")
    picture = tmp_path / "curve.svg"
    found = one(*ask, "--steps", 20, "--eps", 0.05, "--plot", picture)
    record = json.loads((path.parent / "attack.json").read_text())
    radii = np.array(record["samples"]["distance"])
    correct = np.array(record["samples"]["correct"])
    summary = found["minimum_norm"]
    assert (radii[~correct] == 0).all()
    assert summary["median"] == pytest.approx(np.median(radii[correct]))
    assert summary["upper_quartile"] == pytest.approx(np.quantile(radii[correct], 0.75))
    curve = summary["curve"]
    assert curve["robust"][0] == found["clean"]
    assert curve["robust"] == [np.mean(radii > eps) for eps in np.float32(curve["eps"])]
    assert curve["eps"] == pytest.approx(np.linspace(0, radii.max(), len(curve["eps"])))
    broken = [name is not None for name in record["samples"]["broken_by"]]
    assert broken == (correct & (radii <= 0.05)).tolist()
    assert found["robust"] == (radii > 0.05).mean()
    both = found["per_attack"].values()
    left = 30 * found["clean"]
    for each in both:
        left -= each["broken"]
        assert 30 * each["robust"] == pytest.approx(left)
    assert summary["median"] <= min(each["median"] for each in both)
    assert found["per_attack"]["fab"]["forward"] > 0
    assert "radius" in picture.read_text()
    shown = done(*ask, "--steps", 5)
    radii = r"an image \(linf\): median [\d.e-]+ \([\d.]+/255\), quartiles [\d.e-]+ and [\d.e-]+, "
    assert re.search(radii, shown)
    assert "passes per image" in shown


def test_an_image_that_stays_unbroken_has_no_distance_in_the_record() -> None:
    path = save_run("model")
    one("attack", "model", "-n", 12, "--minimum-norm", "--steps", 1, "--norm", "l2")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    record = json.loads((path.parent / "attack.json").read_text(), parse_constant=refuse)
    unbroken = record["samples"]["distance"].count(None)
    assert unbroken == record["minimum_norm"]["unbroken"] > 0


@pytest.mark.parametrize(
    ("radii", "median", "upper"),
    [
        ([0.1, 0.3, 0.5], 0.3, 0.4),
        ([0.1, 0.3], 0.2, 0.25),
        ([0.1, torch.inf], torch.inf, torch.inf),
        ([0.1, 0.2, torch.inf], 0.2, torch.inf),
        ([0.1, 0.2, 0.3, 0.4, torch.inf], 0.3, 0.4),
        ([torch.inf, torch.inf], torch.inf, torch.inf),
    ],
)
def test_a_quantile_beside_an_unbroken_image_is_infinite(
    radii: list[float], median: float, upper: float
) -> None:
    found = minimum_norm._quantiles(torch.tensor(radii))
    assert found["median"] == pytest.approx(median)
    assert found["upper_quartile"] == pytest.approx(upper)
    assert found["lower_quartile"] <= found["median"]


def test_what_two_attacks_break_counts_for_the_first() -> None:
    model = linear(gain=3.0)
    images = batch(model)
    eps = distances(model, images, "l2").median().item()
    found = evaluate.attack(
        wrap(model, classes=5, shape=SHAPE, mean=0, std=1),
        images=images.x,
        labels=images.y,
        attacks=["fab", "fmn"],
        minimum_norm=True,
        norm="l2",
        eps=eps,
        exact=True,
    )
    left, n = found.clean, found.n
    for each in found.per_attack.values():
        left -= each["broken"] / n
        assert each["robust"] == pytest.approx(left)
    assert found.per_attack["fab"]["broken"] > n / 4


def test_the_report_says_what_there_is_no_radius_of() -> None:
    found = evaluate.attack(load_run("model"), num=12, minimum_norm=True, steps=1)
    infinite = minimum_norm._quantiles(torch.tensor([0.1, torch.inf]))
    far = replace(found, minimum_norm={**infinite, "unbroken": 1})
    assert "median infinite, quartiles infinite and infinite, 1 unbroken" in told(far)
    wrong = replace(found, clean=0.0)
    assert told(wrong).endswith("breaks an image: no image is classified correctly")


def test_a_resumed_attack_is_not_said_to_have_taken_less_than_its_part() -> None:
    """The seconds of attacks are those of all calls, the others of the last one."""
    found = evaluate.attack(load_run("model"), num=4, minimum_norm=True, steps=1)
    assert "1000.0 s (" in told(replace(found, seconds=1e3))
    assert "0.0 s since the interruption, " in told(replace(found, seconds=0.0))


def told(found: Robustness) -> str:
    return report(Comparison([found]), ["model"], {})


def test_what_cannot_be_is_refused() -> None:
    save_run("model")
    ask = ("attack", "model", "-n", 5, "--minimum-norm")
    refused(here(*ask, "--attack", "pgd"), 2, "does not look for the nearest", "`fmn`")
    refused(here(*ask, "--eps", 0.1, "--eps", 0.2), 2, "at every radius")
    refused(here(*ask, "--transfer-from", "model"), 2, "do not go together")


def test_a_stopped_one_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_run("model", gain=2.0)
    settings = {
        "num": 100,
        "batch_size": 4,
        "minimum_norm": True,
        "attacks": ("fmn", "fab"),
        "steps": 6,
        "exact": True,
    }
    whole = evaluate.attack(model, **settings)
    passed = evaluator.Evaluator._attack_part
    parts = -(-sum(whole.samples["correct"]) // 4)
    calls = iter(range(100))

    def last_dies(self: evaluator.Evaluator, *given: object) -> object:
        if next(calls) == 2 * parts - 1:
            raise KeyboardInterrupt
        return passed(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluator.Evaluator, "_attack_part", last_dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate.attack(model, progress=tmp_path, **settings)
    assert len(list(tmp_path.rglob("*.json"))) == 2
    resumed = evaluate.attack(model, progress=tmp_path, **settings)
    # The last batch of the second attack was left, and it alone was run.
    assert next(calls) == 2 * parts + 1
    assert resumed.samples == whole.samples
    assert replace(resumed, seconds=0, per_attack={}) == replace(whole, seconds=0, per_attack={})
    assert not list(tmp_path.rglob("*.json"))
