"""Certified radii by randomised smoothing, beside the accuracy under attack."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import done, here, one, refused
from helpers.linear_model import SHAPE, linear
from helpers.runs import Listener, load_run, save_run
from safetensors.torch import load_file
from scipy.stats import binom, binomtest, norm

from jeatcli import wrap
from jeatcli.cli.attack_report import report
from jeatcli.core.rng import ImageRng
from jeatcli.data.images import to_unit_range
from jeatcli.robustness import certificate, evaluate
from jeatcli.robustness.certificate import Sampler, lower_bound, radius
from jeatcli.robustness.compare import Comparison


@pytest.mark.parametrize(("hits", "draws"), [(990, 1000), (600, 1000), (51, 100), (100, 100)])
def test_the_bound_is_where_so_many_hits_are_as_rare_as_alpha(hits: int, draws: int) -> None:
    bound = lower_bound(hits, draws, 0.001)
    assert binom.sf(hits - 1, draws, bound) == pytest.approx(0.001)
    assert radius(hits, draws, 0.001, 0.5) == (
        pytest.approx(0.5 * norm.ppf(bound)) if bound > 0.5 else None
    )


def test_the_bound_of_no_hit_and_of_all() -> None:
    assert lower_bound(0, 10, 0.01) == 0
    assert lower_bound(10, 10, 0.01) == pytest.approx(0.01 ** (1 / 10))


def test_a_linear_classifier_has_the_radius_in_all_but_alpha_of_cases() -> None:
    """Of two classes the smoothed boundary is the boundary, whose distance is known."""
    model, sigma, alpha, draws = linear(classes=2), 0.3, 0.05, 200
    weight = model.net.weight
    normal = (weight[0] - weight[1]) / (weight[0] - weight[1]).norm()
    x = torch.randn(400, normal.numel(), generator=torch.Generator().manual_seed(0))
    exact = torch.linspace(0.05, 0.5, 400)
    x = (x + (exact - x @ normal)[:, None] * normal).view(400, *SHAPE)
    top = model(x).argmax(1)
    assert (top == 0).all()
    sampler = Sampler(model, sigma, 0, 500)
    found = []
    for k in range(400):
        hits = int(sampler.counts(x[k], draws, k)[top[k]])
        found.append(radius(hits, draws, alpha, sigma) or 0.0)
    over = (torch.tensor(found) > exact).double().mean().item()
    # Three standard deviations above alpha.
    assert over <= alpha + 3 * (alpha * (1 - alpha) / 400) ** 0.5
    assert over > 0.01
    assert np.corrcoef(found, exact)[0, 1] > 0.95


class Rooted(torch.nn.Module):
    """Class 0 where the first pixel is above -3, else NaN."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        root = (x.flatten(1)[:, 0] + 3).sqrt()
        return torch.stack([1 + root, 0 * root, 0 * root], 1)


def test_logits_of_nan_are_votes_for_no_class() -> None:
    """`argmax` takes them for the largest: all draws would be for class 0, at any distance."""
    model = wrap(Rooted(), classes=3, shape=SHAPE, mean=0, std=1)
    x = torch.linspace(0, 1, 20).view(20, 1, 1, 1).expand(20, *SHAPE)
    counts = Sampler(model.classifier, 3.0, 0, 64).counts(x[0], 4000, 1)
    share = norm.cdf(1.0)
    assert counts.tolist() == [counts[0], 0, 0, 4000 - counts[0]]
    assert counts[0] / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)
    found = evaluate.attack(model, images=x, labels=[0] * 20, **few(num=None, sigma=3.0, steps=1))
    for r, pixel in zip(found.samples["radius"], x[:, 0, 0, 0].tolist(), strict=True):
        assert r is None or r < pixel + 3


def few(**changes: object) -> dict[str, object]:
    return {"num": 40, "certify": True, "sigma": 0.2, "certify_draws": 100, "steps": 4} | changes


def test_what_is_certified_is_never_broken() -> None:
    """The outputs of a linear classifier, so that many images are certain and many break."""
    model = wrap(linear(gain=5.0), classes=5, shape=SHAPE, mean=0, std=1)
    x = 0.5 + 0.2 * torch.randn(60, *SHAPE, generator=torch.Generator().manual_seed(1))
    x = x.clamp(0, 1)
    y = linear()(x).argmax(1)
    before = 1.0
    for eps in (0.05, 0.2, 0.5):
        found = evaluate.attack(model, images=x, labels=y, eps=eps, **few(num=None, steps=10))
        sure = found.certificate
        assert sure is not None
        assert sure["certified"] <= found.robust <= found.clean
        assert found.robust <= before
        assert found.per_attack["pgd"]["robust"] == found.robust
        assert sure["contradicted"] == 0
        radii = [
            r
            for r, good in zip(found.samples["radius"], found.samples["correct"], strict=True)
            if good
        ]
        assert sure["certified"] == sum(r >= eps for r in radii) / 60
        before = found.robust
    assert before < found.clean / 2
    assert all(
        (r is None) == (top is None)
        for r, top in zip(found.samples["radius"], found.samples["predicted"], strict=True)
    )
    assert sure["abstained"] == found.samples["radius"].count(None)


@pytest.mark.slow
def test_every_image_with_the_right_prediction_is_attacked() -> None:
    """Near the boundary of two classes the verdict of a hundred draws is often the other class."""
    net = linear(classes=2)
    model = wrap(net, classes=2, shape=SHAPE, mean=0, std=1)
    normal = net.net.weight[0] - net.net.weight[1]
    normal /= normal.norm()
    x = 0.5 + 0.005 * torch.randn(120, normal.numel(), generator=torch.Generator().manual_seed(1))
    away = torch.linspace(0.04, 0.06, 120)
    x = (x + (away - x @ normal)[:, None] * normal).view(120, *SHAPE).clamp(0, 1)
    y, settings = [0] * 120, few(num=None, sigma=0.3, certify_draws=1000, eps=2.0, steps=10)
    found = evaluate.attack(model, images=x, labels=y, **settings)
    assert 20 < sum(found.samples["correct"]) < 120
    assert found.robust == 0


def test_the_batches_change_no_certificate() -> None:
    model = load_run("model", gain=2.0)
    first, second = (evaluate.attack(model, batch_size=size, **few()) for size in (7, 64))
    assert first.samples == second.samples


def test_no_draw_serves_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that select a class would bias its bound, and those that an attack saw its verdict."""
    counted, calls = Sampler.counts, []

    def recorded(self: Sampler, x: torch.Tensor, draws: int, *purpose: int) -> torch.Tensor:
        calls.append(purpose)
        return counted(self, x, draws, *purpose)

    monkeypatch.setattr(certificate.Sampler, "counts", recorded)
    found = evaluate.attack(load_run("model", gain=2.0), **few(num=8, eps=3.0, steps=10))
    assert len(calls) > 2 * 8
    assert len({*calls}) == len(calls)
    assert found.certificate is not None
    victim, seen = certificate.smoothed(Sampler(linear(), 0.1, 0, 8))
    noises = [ImageRng([net.net.seed]).normal(torch.empty(1, 9)) for net in (victim, seen)]
    assert not torch.equal(*noises)


def test_the_saved_images_are_those_whose_break_was_confirmed(tmp_path: Path) -> None:
    """The verdict of the attack, on a tenth of the draws, breaks more than all draws confirm."""
    model, file = load_run("model", gain=2.0), tmp_path / "adversarial.safetensors"
    changes = {"certify_draws": 11, "alpha": 0.001, "eps": 0.5, "images_to": file}
    found = evaluate.attack(model, **few(**changes))
    saved = load_file(file)
    clean = to_unit_range(model.test_images(None, None).x[saved["index"]])
    broken = saved["broken"].bool()
    assert broken.tolist() == [name is not None for name in found.samples["broken_by"]]
    assert not broken.all()
    assert torch.equal(saved["images"][~broken], clean[~broken])


def test_the_command_prints_what_it_stands_on(tmp_path: Path) -> None:
    save_run("model", gain=2.0)
    ask = ("attack", "model", "-n", 12, "--certify", "--sigma", 0.1, "--certify-draws", 50)
    picture = tmp_path / "c.svg"
    radii = ("--eps", 0.05, "--eps", 0.2)
    found = one(*ask, "--steps", 2, *radii, "--plot", picture)
    for each in found["results"]:
        about = each["certificate"]
        assert (about["sigma"], about["n0"], about["n"], about["alpha"]) == (0.1, 100, 50, 0.001)
        assert each["norm"] == "l2"
    assert "certified" in picture.read_text()
    shown = done(*ask, "--steps", 2)
    assert "certified at l2 0.6" in shown
    assert "sigma 0.1, n0 100, n 50, alpha 0.001" in shown
    assert "without a prediction" in shown


def test_one_that_is_contradicted_is_reported() -> None:
    model = load_run("model", gain=2.0)
    found = evaluate.attack(model, **few())
    doubtful = replace(found, certificate={**(found.certificate or {}), "contradicted": 1})
    for result, said in ((doubtful, True), (found, False)):
        shown = report(Comparison([result]), ["model"], {})
        assert ("broken within their radius: 1 image; alpha allows 0.0" in shown) == said


@pytest.mark.parametrize("mode", [("--certify",), ("--purify", 2)])
def test_a_kernel_that_would_not_be_used_is_refused(mode: tuple[object, ...]) -> None:
    save_run("model")
    ask = ("attack", "model", "-n", 4, "--steps", 1, "--norm", "l2", *mode)
    refused(here(*ask, "--kernel", "winograd"), 2, "the library alone", "--kernel winograd")
    draws = ("--certify-draws", 11) if mode[0] == "--certify" else ("--purify-draws", 1)
    done(*ask, *draws, "--kernel", "library")


@pytest.mark.parametrize(("alpha", "least"), [(0.001, 11), (0.0001, 15), (2**-11, 12)])
def test_too_few_draws_for_a_test_at_alpha_are_refused(alpha: float, least: int) -> None:
    """All of them for the wrong class would be no evidence: every image would count as robust."""
    assert binomtest(least, least, 0.5).pvalue <= alpha < binomtest(least - 1, least - 1).pvalue
    save_run("model")
    ask = ("attack", "model", "-n", 2, "--steps", 1, "--certify", "--alpha", alpha)
    message = f"with {least - 1} draws no test at alpha {alpha:g}"
    hint = f"give `--certify-draws {least}` or more"
    refused(here(*ask, "--certify-draws", least - 1), 2, message, hint)
    done(*ask, "--certify-draws", least)


def test_a_radius_that_no_image_can_have_is_flagged() -> None:
    model = load_run("model", gain=2.0)
    bound = 0.2 * norm.ppf(0.001 ** (1 / 100))
    for eps, names in ((bound - 1e-6, []), (bound + 1e-6, ["eps-beyond-any-certificate"])):
        found = evaluate.attack(model, **few(eps=eps, steps=1, num=8))
        assert found.certificate is not None
        assert found.certificate["largest"] == pytest.approx(bound)
        raised = [each for each in found.warnings if each["name"] != "low-clean-accuracy"]
        assert [each["name"] for each in raised] == names
    assert "certify no radius above 0.3" in raised[0]["text"]


def test_what_does_not_go_together_is_refused() -> None:
    save_run("model")
    ask = ("attack", "model", "-n", 5)
    refused(here(*ask, "--sigma", 0.2), 2, "`--sigma` is for `--certify`")
    refused(here(*ask, "--certify", "--norm", "linf"), 2, "is for l2")
    for other in (("--purify", 2), ("--minimum-norm",), ("--target", 3)):
        refused(here(*ask, "--certify", *other), 2, "do not go together", other[0])


@pytest.mark.parametrize("damage", ["", "[]", '{"rows": [[3, 50]], "digest": "0"}'])
def test_a_stopped_one_goes_on_to_the_same_end(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or begins again, where what it has kept is damaged."""
    model = load_run("model", gain=2.0)
    whole = evaluate.attack(model, **few())
    counted, calls = Sampler.counts, []

    def dies(self: Sampler, *given: object) -> object:
        calls.append(given)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return counted(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(certificate.Sampler, "counts", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate.attack(model, progress=tmp_path, **few())
    (file,) = tmp_path.rglob("certificate.json")
    assert len(json.loads(file.read_text())["rows"]) == 16
    if damage:
        file.write_text(damage)
    calls.clear()
    monkeypatch.setattr(certificate.Sampler, "counts", counted)
    listener = Listener()
    resumed = evaluate.attack(model, progress=tmp_path, reporter=listener, **few())
    assert any(f"`{file}` is damaged" in text for text in listener.said) == bool(damage)
    assert resumed.samples == whole.samples
    assert replace(resumed, seconds=0, per_attack={}) == replace(whole, seconds=0, per_attack={})
    assert not list(tmp_path.rglob("*.json"))
