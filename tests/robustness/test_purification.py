"""Purification by a chain, attacked through it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.cli import done, here, one, refused
from helpers.linear_model import SHAPE, linear
from helpers.runs import load_run, save_run
from torch import Tensor

from jeatcli.core.sgld import Chain, langevin
from jeatcli.robustness import evaluate, evaluator
from jeatcli.robustness.purification import (
    Purification,
    Randomised,
    Through,
    Walk,
    content,
    defended,
)

CHAIN = Chain(7, 0.5, 0.01, clip=1.0)


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("side", [4, 224])
def test_the_number_of_an_image_is_the_same_in_any_batch(side: int) -> None:
    """Of one large image the threads share the pixels, of several the images."""
    x = torch.rand(6, 3, side, side, generator=torch.Generator().manual_seed(0))
    numbers = content(x)
    assert len({*numbers}) == 6
    assert numbers == [number for part in x.split([1, 4, 1]) for number in content(part)]
    assert numbers == content(x.to(memory_format=torch.channels_last))
    zeros = torch.zeros(1, 1, 2, 2)
    assert content(-zeros) == content(zeros)


def plainly(walk: Walk, x: Tensor) -> Tensor:
    """Run the chain with all of its graph."""
    for k in range(walk.chain.steps):
        x = walk._moved(x, k, graph=True)
    return x


@pytest.mark.parametrize("steps", [1, 2, 7, 16])
def test_its_gradient_is_that_of_the_whole_graph(steps: int) -> None:
    classifier = load_run("model").classifier
    walk = Walk(classifier, replace(CHAIN, steps=steps), [1, 2, 3])
    gradients = []
    for run in (lambda x: Through.apply(x, walk), lambda x: plainly(walk, x)):
        x = images().requires_grad_(True)
        loss = (run(x) * torch.linspace(-1, 1, 64).view(1, 1, 8, 8)).square().sum()
        gradients += torch.autograd.grad(loss, x)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


def test_the_chain_is_that_of_the_core() -> None:
    classifier = load_run("model").classifier
    still = replace(CHAIN, noise=0.0)
    x = images()
    ours = Walk(classifier, still, [1, 2, 3]).run(x)
    energy = lambda x: -classifier(x).logsumexp(1)  # noqa: E731
    torch.testing.assert_close(ours, langevin(energy, x, still, None))  # type: ignore[arg-type]


def test_the_noise_is_fresh_at_each_step_and_of_each_image() -> None:
    """Without a gradient the end is normal, K variances from the start; and not K^2."""
    flat = linear(gain=0.0)
    middle = torch.full((300, *SHAPE), 0.5)
    moved = Walk(flat, Chain(9, 1.0, 0.02), list(range(300))).run(middle) - middle
    assert moved.std().item() == pytest.approx(0.06, rel=0.02)
    assert moved.mean().item() == pytest.approx(0, abs=0.002)
    # The mean of the images has their deviation over its root.
    assert moved.mean(0).std().item() == pytest.approx(0.06 / 300**0.5, rel=0.25)


class Recorded(Randomised):
    """It keeps the seeds of its draws."""

    asked: tuple[int, ...] = ()

    def drawn(self, x: Tensor, seeds: list[int]) -> Tensor:
        self.asked += (*seeds,)
        return torch.zeros(len(x), 2)


def test_each_draw_of_each_image_has_a_seed_of_its_own() -> None:
    first, again, other = (Recorded(linear(), seed, 3) for seed in (0, 0, 1))
    for net in (first, again, other):
        net(images(4))
    assert first.asked == again.asked
    assert len({*first.asked, *other.asked}) == 24


def test_an_attack_does_not_know_the_noise_of_the_verdict() -> None:
    victim, seen = defended(load_run("model"), 2, "exact", 1, seed=0)
    assert not torch.equal(victim(images()), seen(images()))


def test_what_it_returns_depends_on_the_image_alone() -> None:
    net = Purification(load_run("model").classifier, CHAIN, seed=0, draws=3)
    x = images()
    together, alone = net(x), torch.cat([net(row[None]) for row in x])
    torch.testing.assert_close(together, alone)
    # The log of the mean probabilities of the draws.
    assert together.logsumexp(1).abs().max() < 1e-5
    other = Purification(net.classifier, CHAIN, seed=1, draws=3)
    assert not torch.equal(other(x), together)


def test_the_three_gradients() -> None:
    model = load_run("model")
    x = images()
    slopes = {}
    for gradient in ("exact", "straight-through", "none"):
        victim, seen = defended(model, 5, gradient, 2, seed=0)
        moved = x.clone().requires_grad_(True)
        logits = seen(moved)
        (slopes[gradient],) = torch.autograd.grad(logits[:, 0].sum(), moved)
        assert (seen is model.classifier) == (gradient == "none")
        assert not torch.equal(victim(x), seen(x))
    assert len({slope.norm().item() for slope in slopes.values()}) == 3
    # Without steps to take, the identity is exact.
    still = Chain(3, 0.0, 0.0)
    net = Purification(model.classifier, still, seed=0, exact=False)
    torch.testing.assert_close(net(x), model.classifier(x))


def test_the_command_attacks_and_says_how() -> None:
    save_run("model", gain=2.0)
    ask = ("attack", "model", "-n", 20, "--purify", 3, "--steps", 3, "--purify-draws", 2)
    found = one(*ask)
    assert found["purification"] == {"steps": 3, "gradient": "exact", "draws": 2}
    assert found["robust"] <= found["clean"]
    shown = done(*ask, "--purify-gradient", "straight-through")
    assert "purified by 3 steps, gradient straight-through over 2 draws" in shown
    once = (*ask[:5], 1, *ask[6:])
    assert "purified by 1 step, gradient exact over 2 draws" in done(*once)
    other = one(*ask[:-2], "--purify-gradient", "none")
    assert other["purification"] == {"steps": 3, "gradient": "none", "draws": 1}


def test_what_does_not_go_together_is_refused() -> None:
    save_run("model")
    ask = ("attack", "model", "-n", 5)
    refused(here(*ask, "--purify-draws", 2), 2, "is for `--purify`")
    none = ("--purify", 2, "--purify-gradient", "none")
    refused(here(*ask, *none, "--purify-draws", 2), 2, "`--purify-gradient none` takes none")
    for other in (("--minimum-norm",), ("--transfer-from", "model")):
        refused(here(*ask, "--purify", 2, *other), 2, "do not go together", other[0])


def test_a_stopped_one_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_run("model", gain=2.0)
    settings = {"num": 80, "batch_size": 8, "purify": 3, "purify_draws": 2, "steps": 3, "eps": 0.05}
    whole = evaluate.attack(model, **settings)
    parts = math.ceil(sum(whole.samples["correct"]) / 4)
    passed, calls = evaluator.Evaluator._attack_part, iter(range(100))

    def last_dies(self: evaluator.Evaluator, *given: object) -> object:
        if next(calls) == parts - 1:
            raise KeyboardInterrupt
        return passed(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluator.Evaluator, "_attack_part", last_dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate.attack(model, progress=tmp_path, **settings)
    (state,) = tmp_path.rglob("*.json")
    assert json.loads(state.read_text())["progress"]["done"] == 4 * (parts - 1)
    resumed = evaluate.attack(model, progress=tmp_path, **settings)
    assert next(calls) == parts + 1
    assert resumed.samples == whole.samples
