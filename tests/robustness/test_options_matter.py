"""Every option of every attack changes what the attack does; what is published is done."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.linear_model import batch, linear
from helpers.runs import load_run
from safetensors.torch import load_file
from torch import Tensor

from jeatcli.acceleration.ways import Way
from jeatcli.core import pgd
from jeatcli.core.threat import Threat
from jeatcli.robustness import evaluate
from jeatcli.robustness.attacks import ATTACKS, fab, squares, surrogate
from jeatcli.robustness.attacks.ascent import Ascent
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.restarts import Broken
from jeatcli.robustness.attacks.surrogate import Surrogate
from jeatcli.runtime import devices

TINY = Threat("linf", 1e-7)
SMALL = Threat("linf", 0.05)
CHANGED = {"steps": 7, "restarts": 3, "queries": 20, "draws": 2, "step_size": 0.01}
RANDOM = ("pgd", "cw", "apgd-ce", "apgd-dlr", "apgd-t", "square")


def outcome(name: str, threat: Threat, seed: int = 0, **options: Any) -> tuple[Tensor, int, int]:
    """Return the moved images of a short attack, and its passes."""
    model = linear()
    images = batch(model, 6)
    few = {"steps": 5, "queries": 10}
    known = {key: few[key] for key in few if key in ATTACKS[name].options}
    seen = Surrogate(model)
    attack = make_attack(name, **(known | options))
    moved = attack(seen, images, AttackOptions(threat, seed=seed))
    return moved, seen.forward, seen.backward


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name, entry in ATTACKS.items() for option in entry.options],
)
def test_no_option_is_ignored(name: str, option: str) -> None:
    if option in ("objective", "step_size"):
        change = "marginal" if option == "objective" else CHANGED[option]
        plain, changed = outcome(name, SMALL), outcome(name, SMALL, **{option: change})
        assert not torch.equal(plain[0], changed[0])
    else:
        # Nothing breaks in so small a ball, so that all passes are made.
        plain, changed = outcome(name, TINY), outcome(name, TINY, **{option: CHANGED[option]})
        assert changed[1] > plain[1]


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_is_that_of_the_starts(name: str) -> None:
    wide = Threat("linf", 0.3)
    few: dict[str, Any] = {"steps": 1, "step_size": 0.01} if name in ("pgd", "cw") else {}
    first, again, other = (outcome(name, wide, seed, **few)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        *((name, None) for name, entry in ATTACKS.items() if entry.targets),
        *(("pgd", objective) for objective in ("ce", "joint", "margin", "dlr", "kl")),
    ],
)
def test_an_attack_with_a_target_reaches_it_more_often(name: str, objective: str | None) -> None:
    model = linear()
    images = batch(model, 40)
    target = (images.y + 1) % 5
    options = AttackOptions(
        Threat("linf", 0.3), objective, queries=300 if name == "square" else None
    )
    aimed = Batch(images.x, images.y, target, images.index)
    attack = make_attack(name, options)
    reached, missed = (
        (model(attack(model, each, options)).argmax(1) == target).float().mean()
        for each in (aimed, images)
    )
    assert reached > missed + 0.1


@pytest.mark.parametrize("name", ["pgd", "apgd-t", "square"])
def test_what_counts_under_a_target_is_the_target(name: str, tmp_path: Any) -> None:
    """Through `attack`: every image that counts as broken is taken for the target."""
    model = load_run("model", gain=2.0)
    few = {"queries": 200} if name == "square" else {"steps": 10}
    file = tmp_path / "images.safetensors"
    result = evaluate.attack(
        model, attacks=[name], target="3", eps=0.3, num=80, images_to=file, **few
    )
    saved = load_file(file)
    broken = saved["broken"].bool()
    assert broken.sum() == result.per_attack[name]["broken"] > 0
    assert (model.classifier(saved["images"][broken]).argmax(1) == 3).all()


def test_apgd_has_the_momentum_of_the_paper() -> None:
    """x2 = P(x1 + 3/4 (P(x1 + eta g1) - x1) + 1/4 (x1 - x0)), on a loss that turns around."""
    model, ball = linear(), pgd.L2(0.2)
    images = batch(model, 5)
    points: list[Tensor] = []

    class Watched(Surrogate):
        def __call__(self, x: Tensor) -> Tensor:
            points.append(x.detach().clone())
            return super().__call__(x)

    def loss(logits: Tensor, rows: Batch) -> Tensor:
        return -(logits - logits.detach().mean() - 1).square().sum(1)

    def step(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(model(x), images).sum(), x)
        return ball.project(x.detach() + ball.step(gradient, 0.4), images.x).clamp(0, 1)

    # Of 12 steps the first check comes after the second.
    ascent = Ascent(Watched(model), loss, ball, 12)
    ascent.run(images, torch.arange(5), images.x, Broken(images))
    start, first, second = points[:3]
    torch.testing.assert_close(first, step(start))
    mixed = first + 0.75 * (step(first) - first) + 0.25 * (first - start)
    torch.testing.assert_close(second, ball.project(mixed, images.x).clamp(0, 1))
    assert (second - step(first)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["fab", "fab-t"])
def test_later_starts_of_fab_are_half_a_radius_away(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = linear()
    images = batch(model, 4)
    starts: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(
        fab.Walk, "run", lambda self, rows, image, start, broken: starts.append((rows.x, start))
    )
    threat = Threat("l2", 0.2)
    make_attack(name, restarts=3)(model, images, AttackOptions(threat))
    assert torch.equal(*starts[0])
    for x, start in starts[1:]:
        torch.testing.assert_close(pgd.ball(threat).distance(start, x), torch.full((len(x),), 0.1))
    assert not torch.equal(starts[1][1], starts[2][1])


def test_a_square_of_linf_goes_from_one_side_of_the_ball_to_the_other() -> None:
    x = torch.full((4, 1, 8, 8), 0.5)
    shapes = squares.LinfSquares(0.1, 1)
    uniform = torch.tensor([0.2, 0.3, 0.9]).expand(4, 1, 3)
    prepared = shapes.prepare(x, 0, uniform)[:, 0]
    moved = shapes.propose(x, x - 0.1, 0, prepared)
    inside = moved > 0.5
    assert inside.sum() == 4 * squares.side(0, 8, 8) ** 2
    torch.testing.assert_close(moved[inside], torch.full_like(moved[inside], 0.6))
    assert (shapes.prepare(x, 0, 1 - uniform)[..., 0] < 0).all()


def test_exact_searches_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(precision: str, device: torch.device) -> torch.dtype | None:
        return None if precision == "fp32" else torch.bfloat16

    monkeypatch.setattr(devices, "autocast_type", choose)
    model = load_run("model", gain=2.0)
    few: dict[str, Any] = {"attacks": ["fgsm"], "num": 5}
    assert evaluate.attack(model, **few).search == "bf16"
    assert evaluate.attack(model, **few, exact=True).search == "fp32"


def test_the_network_is_computed_as_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Way] = []
    accelerate = surrogate.accelerate

    def watched(classifier: Any, dtype: Any, way: Way) -> Any:
        asked.append(way)
        return accelerate(classifier, dtype)

    monkeypatch.setattr(surrogate, "accelerate", watched)
    model = load_run("model", gain=2.0)
    few: dict[str, Any] = {"attacks": ["fgsm"], "num": 5}
    results = [
        evaluate.attack(model, **few, compiled=compiled, kernel=kernel)
        for compiled in (None, False, True)
        for kernel in ("auto", "winograd-32")
    ]
    of_kernel = [Way(), Way("winograd-32")]
    compiled = [Way("winograd", True), Way("winograd-32", True)]
    assert asked == [*of_kernel, *of_kernel, *compiled]
    assert [Way(result.kernel, result.compiled) for result in results] == asked
