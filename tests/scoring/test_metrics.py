"""Further scores: density and coverage, temperatures, FPR and AUPR, and one from outside."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers.cli import done
from helpers.runs import Listener, save_run

from jeatcli.catalogue import Entry
from jeatcli.checkpoints.model import Model
from jeatcli.data.images import Images, load_images
from jeatcli.scoring import neighbours
from jeatcli.scoring.calibration import calibrate, fit_temperature, rescale
from jeatcli.scoring.classifier_scores import classifier_scores
from jeatcli.scoring.density import density_coverage
from jeatcli.scoring.features import Features
from jeatcli.scoring.image_scores import image_scores
from jeatcli.scoring.neighbours import look_up
from jeatcli.scoring.ood import SCORES, average_precision, fpr95, own_scores
from jeatcli.scoring.settings import METRICS


def features(values: torch.Tensor) -> Features:
    return Features(values, torch.zeros(len(values), 3))


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.5])
def test_density_and_coverage_are_their_definition(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    other = scale * torch.randn(45, 4, generator=generator, dtype=torch.float64)
    away = np.linalg.norm(real[:, None] - real[None], axis=2)
    radii = np.sort(away, axis=1)[:, 5]
    inside = np.linalg.norm(real[:, None] - other[None], axis=2) < radii[:, None]
    found = density_coverage(features(other), features(real))
    assert found["density"] == pytest.approx(inside.sum() / (5 * 45))
    assert found["coverage"] == pytest.approx(inside.any(1).mean())


def test_density_and_coverage_of_known_sets() -> None:
    real = torch.randn(80, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # Of a set with itself both are 1: a ball holds its centre and four neighbours.
    assert density_coverage(features(real), features(real)) == {"density": 1.0, "coverage": 1.0}
    far = density_coverage(features(real + 100), features(real))
    assert far == {"density": 0.0, "coverage": 0.0}
    copies = density_coverage(features(real[:1].repeat(80, 1)), features(real))
    assert copies["coverage"] < 0.2


def test_density_and_coverage_of_four_real_images() -> None:
    """The balls reach to the third neighbour: their radii are 7, 6, 4 and 7."""
    real = features(torch.tensor([[0.0], [1.0], [3.0], [7.0]]))
    # One lies in all four balls, one in the last alone.
    found = density_coverage(features(torch.tensor([[2.5], [10.0]])), real)
    assert found == {"density": pytest.approx(5 / (3 * 2)), "coverage": 1.0}
    apart = density_coverage(features(torch.tensor([[10.0], [20.0]])), real)
    assert apart == {"density": pytest.approx(1 / (3 * 2)), "coverage": 0.25}


def test_the_median_distance_lies_between_the_two_in_the_middle(tmp_path: Path) -> None:
    images = Images("digits", torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3), ())
    drawn, real = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [100.0], [300.0]])
    found = look_up(images.x[:2], drawn, images, real, tmp_path / "near.png")
    assert (found.median, found.median_train) == (2.0, 100.0)


def test_the_distance_between_training_images_is_that_of_all_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fifth, one class of copies, does not stand for all."""
    monkeypatch.setattr(neighbours, "_QUERIES", 10)
    images = Images("x", torch.zeros(50, 1, 8, 8, dtype=torch.uint8), torch.arange(50) // 10, ())
    real = torch.cat([torch.zeros(10), 100.0 * torch.arange(1, 41)])[:, None]
    found = look_up(images.x[:2], real[:2], images, real, tmp_path / "near.png")
    assert found.median_train == 100.0


def test_a_temperature_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40_000, 5, generator=generator, dtype=torch.float64)
    y = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    for factor in (0.002, 0.1, 1.0, 7.0, 500.0):
        assert fit_temperature(factor * logits, y) == pytest.approx(factor, rel=0.03)
    found = rescale(7 * logits, y)
    assert found is not None
    assert found.n == 20_000
    assert found.ece_after < 0.02 < found.ece_before
    assert found.nll_after < found.nll_before
    # Fitted on the images at even places, judged on those at odd ones.
    assert found.temperature == fit_temperature(7 * logits[::2], y[::2])
    confidence, predicted = (7 * logits[1::2]).softmax(1).max(1)
    assert found.ece_before == calibrate(confidence, predicted == y[1::2]).ece
    assert rescale(logits[:19], y[:19]) is None


def test_a_temperature_has_the_closed_form_of_two_classes() -> None:
    # Each image has the logits (a, 0), and a share q of them is of the first class:
    # sigmoid(a / T) = q, so T = a / log(q / (1 - q)).
    logits = torch.tensor([[2.0, 0.0]]).repeat(10, 1)
    y = torch.tensor([0] * 8 + [1] * 2)
    assert fit_temperature(logits, y) == pytest.approx(2 / math.log(4), rel=1e-6)
    # At q = 1/2 it would be infinite.
    assert fit_temperature(logits, torch.arange(10) % 2) is None


def test_no_temperature_is_best_for_logits_that_are_always_right_or_tell_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 5
    noise = torch.rand(40, 5, generator=generator, dtype=torch.float64)
    right = noise.scatter_add(1, y[:, None], torch.full((40, 1), 1.5, dtype=torch.float64))
    wrong = noise.scatter_add(1, y[:, None], torch.full((40, 1), -1.5, dtype=torch.float64))
    for factor in (1, 100):
        assert fit_temperature(factor * right, y) is None
        assert fit_temperature(factor * wrong, y) is None
        assert rescale(factor * right, y) is None
    assert fit_temperature(torch.zeros(40, 5), y) is None
    # One image that is wrong bounds it.
    right[0] = right[1]
    assert fit_temperature(right, y) is not None


def test_why_there_is_no_temperature_is_said(judge: Model) -> None:
    images = load_images("digits", "test").x[:200].float() / 255
    predicted = judge.classifier(images).argmax(1)
    # Those at odd places are for the judgement.
    one_is_wrong = predicted.clone()
    one_is_wrong[1] = (predicted[1] + 1) % 10
    for labels, num, words in (
        (one_is_wrong, 200, "the 100 images that it is fitted to: all are classified correctly"),
        (predicted, 200, "the 100 images that it is fitted to: all are classified correctly"),
        (predicted, 19, "fewer than 20 images"),
        (judge.classifier(images).argmin(1), 200, "the logits tell nothing of the images' classes"),
    ):
        listener = Listener()
        found = classifier_scores(
            judge, images=images[:num], labels=labels[:num], reporter=listener
        )
        assert found.temperature is None
        assert sum(words in text for text in listener.said) == 1


def test_fpr_and_aupr_by_a_loop_over_thresholds() -> None:
    generator = torch.Generator().manual_seed(0)
    # Few values, so that many are ties.
    own = torch.randint(9, (61,), generator=generator).double() + 2
    other = torch.randint(9, (47,), generator=generator).double()
    rates, area, before = [], 0.0, 0.0
    for threshold in sorted({*own.tolist(), *other.tolist()}, reverse=True):
        hits, false = (own >= threshold).sum().item(), (other >= threshold).sum().item()
        if hits >= 0.95 * 61:
            rates.append(false / 47)
        area += (hits / 61 - before) * hits / (hits + false)
        before = hits / 61
    assert fpr95(own, other) == pytest.approx(min(rates))
    assert average_precision(own, other) == pytest.approx(area)


def test_fpr_and_aupr_of_known_scores() -> None:
    own, other = torch.arange(100.0) + 1000, torch.arange(50.0)
    assert (fpr95(own, other), average_precision(own, other)) == (0.0, 1.0)
    assert fpr95(own - 2000, other) == 1.0
    # Of a constant score it is the share of the positive images, and not more.
    assert average_precision(torch.ones(90), torch.ones(10)) == pytest.approx(0.9)
    # At 95 % of 100 images the five lowest are not accepted.
    assert fpr95(torch.arange(100.0), torch.tensor([4.5, 5.0, 5.5, 99.5])) == 0.75


def test_they_are_those_of_the_classifier(judge: Model) -> None:
    found = classifier_scores(judge, ood=["digits"], num=50)
    scores = own_scores(judge, load_images("digits", "test").x[:50])
    areas = found.ood["digits"]
    for name in SCORES:
        assert areas["fpr95"][name] == fpr95(scores[name], scores[name])
        assert areas["aupr"][name] == average_precision(scores[name], scores[name])
    assert found.temperature is not None
    logits = judge.classifier(load_images("digits", "test").x[:50].float() / 255)
    expected = rescale(logits, load_images("digits", "test").y[:50])
    assert expected is not None
    assert found.temperature.temperature == pytest.approx(expected.temperature, rel=1e-4)


def test_the_command_prints_them() -> None:
    save_run("artist", seed=1)
    save_run("judge")
    ask = ("score", "artist", "--features", "judge", "-n", 20, "--steps", 1)
    shown = done(*ask, "--metric", "density-coverage")
    assert {"density", "coverage"} <= {line.split()[0] for line in shown.splitlines() if line}
    shown = done("score", "judge", "--calibration", "--ood", "digits", "-n", 40)
    for word in ("temperature", "FPR at 95 % TPR against", "AUPR against"):
        assert word in shown


def test_a_metric_from_outside(
    artist: Model, judge: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("outside_metric")
    vars(module)["gap"] = lambda images, reference: {
        "gap": (images.values.mean() - reference.values.mean()).item()
    }
    monkeypatch.setitem(sys.modules, "outside_metric", module)
    monkeypatch.setitem(METRICS._entries, "gap", Entry("Means", "outside_metric:gap"))
    found = image_scores(artist, features=judge, num=10, steps=1, metric=("gap",))
    assert found.metrics.keys() == {"gap"}
    assert found.metrics["gap"] != 0
