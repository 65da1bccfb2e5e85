"""The other kinds of landscape: paths, histograms and sharpness, against what they should be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import here, refused
from helpers.runs import load_run

from jeatcli.checkpoints.model import Model
from jeatcli.core import objectives, pgd
from jeatcli.core.threat import Threat
from jeatcli.data.images import load_images, to_unit_range
from jeatcli.errors import UsageProblem
from jeatcli.landscapes import view
from jeatcli.landscapes.histogram import HistogramResult, Sets
from jeatcli.landscapes.landscape import Landscape, energy_landscape, save_numbers
from jeatcli.landscapes.path import PathResult
from jeatcli.landscapes.settings import HistogramSettings
from jeatcli.landscapes.sharpness import SharpnessResult
from jeatcli.plots.landscape import draw
from jeatcli.sampling.plan import SamplingPlan
from jeatcli.sampling.samplers import Sgld, descend


@pytest.fixture
def two() -> list[Model]:
    return [load_run("one"), load_run("two", method="jeat", seed=1)]


def images(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    part = load_images("digits", "test").first(num)
    return to_unit_range(part.x), part.y


def drawn_and_saved(found: Landscape, folder: Path) -> dict[str, np.ndarray]:
    draw(found, folder / "a.png")
    with np.load(save_numbers(found, folder / "a.npz")) as arrays:
        return dict(arrays)


def test_path_of_the_attack_is_the_attack(two: list[Model], tmp_path: Path) -> None:
    found = energy_landscape(two, kind="path", num=6, steps=5, beyond=3, chain=4, eps=0.1)
    paths = found.result
    assert isinstance(paths, PathResult)
    assert paths.values["pgd"].shape == (2, 4, 9, 6)
    assert paths.values["sgld"].shape == (2, 4, 5, 6)
    x, y = images(6)
    value = objectives.objective("ce", two[0].classifier, x, y)
    moved = pgd.ascend(value, x, pgd.Linf(0.1), steps=5, step_size=0.05)
    joint, marginal, cross_entropy, correct = paths.values["pgd"][0, :, 5]
    np.testing.assert_allclose(cross_entropy, value(moved).detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(joint - marginal, cross_entropy, rtol=1e-3, atol=1e-4)
    guess = two[0].classifier(moved).argmax(1)
    assert np.array_equal(paths.predictions["pgd"][0, 5], guess)
    assert np.array_equal(correct, (guess == y).float())
    beyond = paths.values["pgd"][0, 2, 8]
    assert beyond.mean() > cross_entropy.mean()
    assert (paths.values["sgld"][:, 0, -1] < paths.values["sgld"][:, 0, 0]).all()
    arrays = drawn_and_saved(found, tmp_path)
    assert np.array_equal(arrays["pgd"], paths.values["pgd"])
    figures = json.loads(str(arrays["summary"]))["results"][0]
    assert figures["pgd"]["edge"]["ce"] == pytest.approx(cross_entropy.mean(), rel=1e-5)


def test_numbers_do_not_depend_on_the_batch(two: list[Model]) -> None:
    for kind, settings in (
        ("path", {"steps": 3, "beyond": 2, "chain": 3}),
        ("histogram", {}),
        ("sharpness", {"directions": 2}),
    ):
        whole = energy_landscape(two[:1], kind=kind, num=7, **settings)
        parts = energy_landscape(two[:1], kind=kind, num=7, batch_size=3, **settings)
        for name, values in whole.result.arrays().items():
            if values.dtype.kind == "f":
                others = parts.result.arrays()[name]
                np.testing.assert_allclose(others, values, rtol=5e-3, atol=5e-3, err_msg=name)


def test_what_leads_nowhere_is_refused(two: list[Model]) -> None:
    with pytest.raises(UsageProblem, match="unknown objective `kl`"):
        energy_landscape(two[:1], kind="path", num=3, objective="kl")
    said = here("landscape", two[0].path, "--kind", "path", "--objective", "kl")
    refused(said, 2, "'kl' is not one of")
    with pytest.raises(UsageProblem, match="`dlr` needs 3 classes; there are 2"):
        objectives.check_classes("dlr", 2)
    objectives.check_classes("dlr", 3)


def test_samples_of_a_histogram_are_drawn_in_batches(
    two: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = SamplingPlan.draw

    def watched(self: SamplingPlan, index: torch.Tensor, *rest: Any) -> torch.Tensor:
        drawn.append(len(index))
        return draw(self, index, *rest)

    monkeypatch.setattr(SamplingPlan, "draw", watched)
    energy_landscape(two[:1], kind="histogram", num=7, batch_size=3)
    assert drawn == [3, 3, 1]


def test_histogram_sets_are_what_they_say(two: list[Model], tmp_path: Path) -> None:
    found = energy_landscape(two, kind="histogram", num=12, against="digits")
    histograms = found.result
    assert isinstance(histograms, HistogramResult)
    assert set(histograms.values) == {
        *("test", "adversarial", "targeted", "noisy", "noise", "samples", "against")
    }
    x, y = images(12)
    logits = two[1].classifier(x)
    expected = torch.stack([-logits.logsumexp(1), -logits.gather(1, y[:, None])[:, 0]])
    np.testing.assert_allclose(histograms.values["test"][1], expected.detach(), rtol=1e-5)
    # Of another set the label is the predicted class: the smallest E(x,y).
    np.testing.assert_allclose(
        histograms.values["against"][1, 1], -logits.amax(1).detach(), rtol=1e-5
    )

    def cross_entropy(name: str) -> np.ndarray:
        marginal, joint = histograms.values[name][0]
        return joint - marginal

    assert (cross_entropy("adversarial") >= cross_entropy("test") - 1e-4).all()
    assert cross_entropy("adversarial").mean() > cross_entropy("noisy").mean()
    arrays = drawn_and_saved(found, tmp_path)
    assert np.array_equal(arrays["noise"], histograms.values["noise"])
    summary = json.loads(str(arrays["summary"]))
    test = histograms.values["test"][0, 0]
    for name, values in histograms.values.items():
        figures = summary["results"][0]["sets"][name]
        above, level = (f(values[0, 0][:, None], test) for f in (np.greater, np.equal))
        assert figures["marginal_auroc"] == pytest.approx((above + level / 2).mean())
        for row, quantity in enumerate(("marginal", "joint")):
            known = torch.from_numpy(values[0, row]).double()
            assert figures[quantity]["mean"] == pytest.approx(known.mean().item(), rel=1e-5)
            expected = known.quantile(torch.tensor([0.05, 0.5, 0.95]).double()).tolist()
            assert figures[quantity]["quantiles"] == pytest.approx(expected, rel=1e-5)


def test_targets_are_other_classes_at_random(
    two: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = images(200)
    seen: list[torch.Tensor] = []

    def attack(model: Model, x: torch.Tensor, *_: Any, target: torch.Tensor) -> torch.Tensor:
        seen.append(target)
        return x

    monkeypatch.setattr(view, "attack", attack)
    Sets(two[0], x, y, Threat("linf", 0.1), None, HistogramSettings()).targeted(torch.arange(200))
    shifts = (seen[0] - y) % 10
    assert shifts.unique().tolist() == [*range(1, 10)]
    assert shifts.bincount().max() < 45
    assert ((seen[0] >= 0) & (seen[0] < 10)).all()


def test_the_chain_of_a_path_is_that_of_the_run(two: list[Model]) -> None:
    options = {"sgld_step_size": 0.5, "sgld_noise": 0.02, "sgld_clip": 0.3}
    model = replace(two[0], meta=replace(two[0].meta, options=options))
    found = energy_landscape(model, kind="path", num=6, steps=1, beyond=0, chain=4, seed=3)
    assert isinstance(found.result, PathResult)
    (x, y), rng = images(6), view.image_rng(torch.arange(6), 3)
    start, chain = rng.uniform(x), Sgld(steps=4, step_size=0.5, noise=0.02, clip=0.3)

    def joint(at: torch.Tensor) -> torch.Tensor:
        return -model.classifier(at).gather(1, y[:, None])[:, 0]

    end = descend(chain, joint, start, rng)
    for place, at in ((0, start), (-1, end)):
        ours = found.result.values["sgld"][0, 0, place]
        np.testing.assert_allclose(ours, joint(at).detach(), rtol=1e-4, atol=1e-5)
    ends = found.summary()["results"][0]["sgld"]
    assert ends["start"]["joint"] == pytest.approx(joint(start).mean().item(), rel=1e-4)
    assert ends["end"]["joint"] == pytest.approx(joint(end).mean().item(), rel=1e-4)


def test_sharpness_is_what_it_says(two: list[Model], tmp_path: Path) -> None:
    found = energy_landscape(two, kind="sharpness", num=5, radius=(0.5, 2.0), directions=3)
    sharpness = found.result
    assert isinstance(sharpness, SharpnessResult)
    assert sharpness.settings.radius == (0.5, 1.0, 2.0)
    x, y = images(5)
    x.requires_grad_(True)
    joint = -two[0].classifier(x).gather(1, y[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(joint.sum(), x)
    norms = gradient.flatten(1).norm(dim=1)
    np.testing.assert_allclose(sharpness.values["gradient"][0], norms, rtol=1e-4)
    np.testing.assert_allclose(sharpness.values["energy"][0], joint.detach(), rtol=1e-5)
    assert np.array_equal(sharpness.values["rise"], sharpness.rises[:, 1])
    # The worst of the ball is no less than what the gradient's sign reaches in one step.
    step = (x + 0.15 * gradient.sign()).clamp(0, 1)
    reached = -two[0].classifier(step).gather(1, y[:, None])[:, 0] - joint
    assert (sharpness.values["worst"][0] >= reached.detach().numpy() - 1e-3).mean() >= 0.8
    drawn_and_saved(found, tmp_path)
    interval = found.summary()["results"][1]["gradient"]
    assert interval["low"] < interval["mean"] < interval["high"]


def test_noisy_images_lie_on_the_surface_of_the_ball(two: list[Model]) -> None:
    x, y = images(8)
    index = torch.arange(8)
    for norm, radius in {"linf": 0.1, "l2": 0.6, "l1": 2.5}.items():
        threat = Threat(norm, radius)
        sets = Sets(two[0], x, y, threat, None, HistogramSettings())
        noisy = sets.noisy(index)[0]
        distance = pgd.ball(threat).distance(noisy, x)
        assert (distance <= radius + 1e-5).all()
        # The clip to [0, 1] takes something of the others.
        assert (distance >= radius * (1 - 1e-5 if norm == "l1" else 0.5)).all()


@pytest.mark.parametrize("kind", ["path", "histogram", "sharpness"])
def test_without_a_number_a_small_set_is_measured_whole(two: list[Model], kind: str) -> None:
    few: dict[str, Any] = {
        "path": {"steps": 1, "beyond": 1, "chain": 1},
        "histogram": {"against": "digits"},
        "sharpness": {"directions": 2},
    }[kind]
    x, y = images(7)
    found = energy_landscape(two[:1], kind=kind, images=x, labels=y, **few)
    assert found.summary()["n"] == 7
    whole = energy_landscape(two[:1], kind=kind, images=x, labels=y, num=7, **few)
    assert found.summary()["results"] == whole.summary()["results"]
    with pytest.raises(UsageProblem, match="8 images requested"):
        energy_landscape(two[:1], kind=kind, images=x, labels=y, num=8, **few)


@pytest.mark.parametrize(("kind", "usual"), [("path", 100), ("histogram", 200), ("sharpness", 200)])
def test_the_usual_number_of_images(two: list[Model], kind: str, usual: int) -> None:
    few: dict[str, Any] = {
        "path": {"steps": 1, "beyond": 0, "chain": 1},
        "histogram": {},
        "sharpness": {"directions": 2},
    }[kind]
    assert energy_landscape(two[:1], kind=kind, **few).summary()["n"] == usual


def test_images_of_a_file_have_the_radius_of_the_run(two: list[Model], tmp_path: Path) -> None:
    test = load_images("digits", "test").first(12)
    file = tmp_path / "digits.npz"
    np.savez(file, images=test.x.numpy(), labels=test.y.numpy())
    for kind, more in (("sharpness", {"directions": 2}), ("contour", {"grid": 5})):
        named = {} if kind == "contour" else {"num": 4}
        own, other = (
            energy_landscape(two, kind=kind, on=on, **named, **more).summary()
            for on in (None, f"npz:{file}")
        )
        assert other["results"] == own["results"]
        assert other["unit"] == own["unit"] == 0.15
