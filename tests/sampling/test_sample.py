"""Samples: of the class that was asked for, lower in energy, the same in any batch."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import Listener
from helpers.training import run

from jeatcli.acceleration.ways import Way, Wish, Work
from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.core import energy
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.runtime.progress import BarContext
from jeatcli.sampling import initializers, sample
from jeatcli.sampling import settings as samplers


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("runs") / "jeat"
    return load(run(folder, "jeat", epochs=4, limit=0, batch_size=64).run)


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_image_k_is_the_same_in_any_batch(model: Model, sampler: str, batch_size: int) -> None:
    whole = sample.sample(model, num=8, sampler=sampler, steps=20, batch_size=64)
    parts = sample.sample(model, num=8, sampler=sampler, steps=20, batch_size=batch_size)
    torch.testing.assert_close(whole.images, parts.images, atol=1e-4, rtol=0)
    fewer = sample.sample(model, num=5, sampler=sampler, steps=20)
    torch.testing.assert_close(whole.images[:5], fewer.images, atol=1e-4, rtol=0)


class Counting(Listener):
    """Keep what every bar counts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[float] = []

    def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> BarContext:
        return nullcontext(lambda amount, **figures: self.parts.append(amount))


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
@pytest.mark.parametrize(("steps", "best_of"), [(10, 1), (10, 2), (0, 1)])
def test_each_step_of_a_descent_counts(
    model: Model, sampler: str, steps: int, best_of: int
) -> None:
    settings = {"num": 6, "batch_size": 4, "sampler": sampler, "steps": steps, "best_of": best_of}
    counting = Counting()
    sample.sample(model, reporter=counting, **settings)
    assert sum(counting.parts) == pytest.approx(6)
    assert min(counting.parts) >= 0
    if steps:
        assert max(counting.parts) == pytest.approx(4 * (1 - 1 / best_of) or 4 / steps)


def test_the_kernel_rounds_the_images_and_does_not_name_them(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    works: list[Work] = []

    def choose(*asked: Any) -> Way:
        works.append(asked[2])
        return Way("winograd") if asked[3] == Wish() else asked[3].unmeasured

    monkeypatch.setattr(sample, "choose", choose)
    given: dict[str, Any] = {"num": 6, "steps": 5, "best_of": 2, "batch_size": 4}
    measured, plain = (
        sample.prepare(model, **given, **more) for more in ({}, {"kernel": "library"})
    )
    assert works == [((1, 8, 8), 4, 60, 0)] * 2
    assert measured.identity == plain.identity
    found, usual = (sample.draw_all(plan) for plan in (measured, plain))
    assert [found.settings[name] for name in ("kernel", "compiled")] == ["winograd", False]
    assert usual.settings["kernel"] == "library"
    torch.testing.assert_close(found.images, usual.images, atol=1e-3, rtol=0)
    assert not torch.equal(found.images, usual.images)
    # Grids of a run in training, which resumes bit for bit, are drawn by no measurement.
    sample.draw(model, torch.arange(3), 0)
    assert len(works) == 2


LOWERED = [(sampler, "gaussian") for sampler in samplers.SAMPLERS]
LOWERED += [("sgld", init) for init in samplers.INITIALIZERS if init != "gaussian"]


@pytest.mark.parametrize("objective", samplers.OBJECTIVES)
@pytest.mark.parametrize(("sampler", "init"), LOWERED)
def test_descent_lowers_its_objective(
    model: Model, sampler: str, init: str, objective: str
) -> None:
    settings = {"num": 20, "sampler": sampler, "objective": objective, "init": init}
    if sampler == "sgld":
        settings["noise"] = 0.0
    start = sample.sample(model, steps=0, **settings)
    end = sample.sample(model, steps=30, **settings)
    values = {
        "joint": energy.joint,
        "ce": energy.cross_entropy,
        "marginal": lambda logits, y: energy.marginal(logits),
    }[objective]
    before, after = (values(model.classifier(s.images), s.labels).mean() for s in (start, end))
    assert after < before
    assert ((end.images >= 0) & (end.images <= 1)).all()


def test_samples_are_of_the_class_that_was_asked_for(model: Model) -> None:
    drawn = sample.sample(model, num=30, steps=60)
    assert drawn.labels.tolist() == [k % 10 for k in range(30)]
    guesses = model.classifier(drawn.images).argmax(1)
    assert (guesses == drawn.labels).float().mean() > 0.9
    seven = sample.sample(model, num=4, classes=["7", 2], steps=1)
    assert seven.labels.tolist() == [7, 2, 7, 2]


@pytest.mark.parametrize("start", ["pca", "uniform"])
def test_a_model_of_dat_draws_along_the_way_of_its_negatives(model: Model, start: str) -> None:
    options = {"chain_start": start, "chain_steps": 7, "chain_step_size": 0.3}
    dat = replace(model, meta=replace(model.meta, method="dat", options=options))
    drawn = sample.sample(dat, num=4).settings
    known = {"sampler": "ascent", "objective": "joint", "init": start, "steps": 4, "step_size": 0.6}
    assert {key: drawn[key] for key in known} == known
    assert sample.sample(dat, num=4, sampler="sgld", steps=1).settings["init"] == start
    assert sample.sample(dat, num=4, sampler="das", steps=1).settings["init"] == "noise"
    assert sample.sample(model, num=4, steps=1).settings["init"] == "gaussian"


def test_another_seed_gives_other_images(model: Model) -> None:
    first, again, other = (
        sample.sample(model, num=2, steps=5, seed=seed).images for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_checkpoint_is_enough(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jeatcli.data import images

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("sample read a data set")

    monkeypatch.setattr(images, "load_images", refuse)
    monkeypatch.setattr(initializers, "load_images", refuse)
    for init in ("gaussian", "pca", "uniform", "noise", "buffer"):
        assert len(sample.sample(model, num=3, init=init, steps=2).images) == 3


def test_defaults_are_the_methods_own(model: Model) -> None:
    chained = sample.prepare(model).settings
    assert [chained[key] for key in ("sampler", "init", "objective")] == [
        *("sgld", "gaussian", "joint")
    ]
    pgd = sample.prepare(model, sampler="pgd").settings
    assert pgd["eps"] == pytest.approx(30 * (64 / 3072) ** 0.5)
    assert pgd["objective"] == "ce"
    ascent = sample.prepare(model, sampler="ascent").settings
    assert ascent["step_size"] == pytest.approx(0.2 * (64 / 3072) ** 0.5)


def test_the_precision_is_the_descents_alone(model: Model) -> None:
    exact, coarse = (
        sample.sample(model, num=4, steps=5, precision=each) for each in (None, "bf16")
    )
    assert (exact.settings["precision"], coarse.settings["precision"]) == ("fp32", "bf16")
    assert not torch.equal(exact.images, coarse.images)
    torch.testing.assert_close(exact.images, coarse.images, atol=0.05, rtol=0)
    assert model.classifier.autocast is None


def test_a_trace_leads_from_the_start_to_the_image(model: Model) -> None:
    drawn = sample.sample(model, num=12, steps=20, frames=5)
    assert drawn.trace is not None
    states, steps = drawn.trace
    assert steps == [0, 5, 10, 15, 20]
    assert torch.equal(states[-1], drawn.images[:10])
    begin = sample.sample(model, num=12, steps=0)
    assert torch.equal(states[0], begin.images[:10])


def test_a_trace_shows_ten_images_in_batches_of_four(model: Model) -> None:
    drawn = sample.sample(model, num=12, steps=2, frames=3, batch_size=4)
    assert drawn.trace is not None
    assert drawn.trace[0].shape[1] == 10
    torch.testing.assert_close(drawn.trace[0][-1], drawn.images[:10])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": ["dgo"]}, "unknown class `dgo`"),
        ({"classes": [10]}, "unknown class `10`"),
        ({"num": 0}, "at least 1"),
        ({"sampler": "ddpm"}, "unknown sampler"),
        ({"init": "gausian"}, "unknown init"),
        ({"objective": "margin"}, "unknown objective"),
        ({"steps": -1}, "`steps` must be at least 0"),
        ({"best_of": 0}, "at least 1"),
        ({"sampler": "pgd", "noise": 0.1}, "belongs to the sampler `sgld`"),
    ],
)
def test_bad_settings(model: Model, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageProblem, match=message):
        sample.sample(model, **given)


def test_guidance_leads_from_the_marginal_by_the_joint_energy_to_the_cross_entropy(
    model: Model,
) -> None:
    settings = {"num": 10, "sampler": "ascent", "steps": 1, "init": "noise"}
    images = {w: sample.sample(model, guidance=w, **settings).images for w in (-1, 0, 1, 1e4)}
    plain = {
        name: sample.sample(model, objective=name, **settings).images
        for name in ("marginal", "joint", "ce")
    }
    torch.testing.assert_close(images[-1], plain["marginal"], atol=1e-5, rtol=0)
    assert torch.equal(images[0], plain["joint"])
    # Steps of one length: only the direction counts, which is that of E(x,y) + w CE.
    torch.testing.assert_close(images[1e4], plain["ce"], atol=1e-4, rtol=0)
    start = sample.sample(model, **{**settings, "steps": 0})
    x = start.images.clone().requires_grad_(True)
    logits = model.classifier(x)
    value = 2 * energy.joint(logits, start.labels) - energy.marginal(logits)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    size = sample.prepare(model, **settings).sampler.step_size
    step = size * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(images[1], (x.detach() - step).clamp(0, 1), atol=1e-5, rtol=0)


def test_guidance_is_reported_and_takes_the_joint_energy(model: Model) -> None:
    drawn = sample.prepare(model, guidance=2.0, sampler="pgd")
    assert (drawn.settings["guidance"], drawn.settings["objective"]) == (2.0, "joint")
    assert "guidance" not in sample.prepare(model).settings


def test_a_network_of_nan_draws_nothing(model: Model) -> None:
    broken = deepcopy(model.classifier)
    next(broken.parameters()).fill_(torch.nan)
    for sampler in samplers.SAMPLERS:
        with pytest.raises(JeatError, match="`jeat` gives logits that are NaN"):
            sample.sample(replace(model, classifier=broken), num=2, sampler=sampler)


def test_a_stop_that_no_image_reaches_is_told(model: Model) -> None:
    for stop, told in ((-1e6, True), (1e6, False)):
        listener = Listener()
        sample.sample(model, num=3, steps=2, batch_size=2, stop=stop, reporter=listener)
        assert [line.partition(":")[0] for line in listener.said] == (
            ["no image reached `stop` -1e+06"] if told else []
        )
    plan = sample.prepare(model, num=3, steps=1, stop=-1e6)
    plan = replace(plan, initializer=lambda y, like, rng: torch.full_like(like, 0.5))
    sample.draw_all(plan)
    energies = plan.class_energy(plan.labels)(torch.full((3, *model.meta.shape), 0.5))
    assert plan.lowest.value == pytest.approx(energies.min().item(), rel=1e-4)


def test_an_unfinished_training_is_warned_of(model: Model) -> None:
    listener = Listener()
    meta = replace(model.meta, finished=False, epoch=2, epochs=4)
    sample.prepare(replace(model, meta=meta), num=1, reporter=listener)
    assert "`jeat` was stopped after 2 of 4 epochs" in listener.said[0]
    listener = Listener()
    sample.prepare(model, num=1, reporter=listener)
    assert not listener.said
