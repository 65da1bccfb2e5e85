"""The third norm: its ball, the attacks that know it, and the union of norms."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.cli import done, here, one, refused
from helpers.linear_model import batch, linear
from helpers.runs import save_run
from scipy.optimize import linprog
from torch import Tensor

from jeatcli.core.models.classifier import Classifier
from jeatcli.core.pgd import L1
from jeatcli.core.rng import BatchRng
from jeatcli.core.threat import Threat
from jeatcli.robustness.attacks.attack import make_attack, resolve_attacks
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.fab import displacement
from jeatcli.robustness.attacks.malt import nearest_classes
from jeatcli.robustness.attacks.surrogate import Surrogate


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def by_linear_program(x: np.ndarray, normal: np.ndarray, gap: float) -> float:
    """Return the least sum of |d| for which <normal, d> = -gap and x + d is in [0, 1]."""
    d = len(x)
    found = linprog(
        np.ones(2 * d),
        A_eq=np.concatenate([normal, -normal])[None],
        b_eq=[-gap],
        bounds=[*((0, 1 - pixel) for pixel in x), *((0, pixel) for pixel in x)],
    )
    return float(found.fun) if found.success else np.inf


def nearest_boundaries(model: Classifier, images: Batch) -> Tensor:
    """Return the exact l1 distance to the boundary of a linear model."""
    weight = model.net.weight.double().numpy()
    distances = []
    for x, y in zip(images.x.flatten(1).double().numpy(), images.y.tolist(), strict=True):
        leads = weight @ x - weight[y] @ x
        others = [k for k in range(len(weight)) if k != y]
        distances.append(min(by_linear_program(x, weight[k] - weight[y], leads[k]) for k in others))
    return torch.tensor(distances)


def test_its_starts_steps_and_projections() -> None:
    x, ball = images(50), L1(2.0)
    for point in (ball.start(x, BatchRng(0)), ball.on_sphere(x, BatchRng(0))):
        assert (ball.distance(point, x) <= 2 + 1e-6).all()
        assert ((point >= 0) & (point <= 1)).all()
    surface = ball.distance(ball.on_sphere(x, BatchRng(0)), x)
    torch.testing.assert_close(surface, torch.full((50,), 2.0))
    step = ball.step(torch.randn(50, 3, 32, 32), 0.3)
    torch.testing.assert_close(ball.distance(step, 0 * step), torch.full((50,), 0.3))
    assert ((step != 0).flatten(1).sum(1) == 30).all()
    inside = (x + 0.01).clamp(0, 1)
    torch.testing.assert_close(ball.project(inside, x), inside)


def test_the_projection_is_the_nearest_point_of_ball_and_range() -> None:
    x, ball = images(), L1(2.0)
    far = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    projected = ball.project(far, x)
    torch.testing.assert_close(ball.distance(projected, x), torch.full((6,), 2.0))
    assert ((projected >= -1e-6) & (projected <= 1 + 1e-6)).all()
    # No point of the convex set is on the far side of the plane through the projection.
    for seed in range(200):
        other = ball.project(x + 2 * BatchRng(seed).normal(x) * BatchRng(seed).uniform(x) ** 9, x)
        assert (((far - projected) * (other - projected)).flatten(1).sum(1) <= 1e-4).all()


def test_fab_projects_as_a_linear_program() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(12, 1, 4, 4, generator=generator)
    normal, gap = (
        torch.randn(12, 1, 4, 4, generator=generator),
        torch.randn(12, generator=generator),
    )
    moved = displacement(x, normal, gap, "l1")
    torch.testing.assert_close((normal * moved).flatten(1).sum(1), -gap)
    assert ((x + moved >= -1e-6) & (x + moved <= 1 + 1e-6)).all()
    for k in range(12):
        flat = [part[k].flatten().double().numpy() for part in (x, normal)]
        exact = by_linear_program(*flat, gap[k].item())
        assert moved[k].abs().sum().item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t", "fmn"])
def test_attacks_break_what_can_be_broken(name: str) -> None:
    model = linear(gain=3.0)
    few = batch(model, 12)
    exact = nearest_boundaries(model, few)
    eps = exact.median().item()
    moved = make_attack(name)(model, few, AttackOptions(Threat("l1", eps)))
    assert (L1(eps).distance(moved, few.x) <= eps + 1e-6).all()
    broken = model(moved).argmax(1) != few.y
    assert not broken[exact > eps + 1e-5].any()
    assert broken[exact < 0.95 * eps].all()


def test_square_breaks_nothing_out_of_reach() -> None:
    model = linear(gain=3.0)
    few = batch(model, 12)
    exact = nearest_boundaries(model, few)
    found = []
    for eps in (exact.median().item(), 8 * exact.max().item()):
        plan = AttackOptions(Threat("l1", eps), queries=200)
        moved = make_attack("square", plan)(model, few, plan)
        assert (L1(eps).distance(moved, few.x) <= eps + 1e-6).all()
        found.append(model(moved).argmax(1) != few.y)
    assert not found[0][exact > exact.median() + 1e-5].any()
    assert found[1].sum() > 9


def test_fmn_finds_the_least_sum() -> None:
    model = linear(gain=3.0)
    few = batch(model, 12)
    moved = make_attack("fmn")(model, few, AttackOptions(Threat("l1", 16.0)))
    ratio = L1(16.0).distance(moved, few.x) / nearest_boundaries(model, few)
    assert (ratio >= 1 - 1e-4).all()
    assert ratio.median() < 1.02


def test_the_union_is_what_withstands_all() -> None:
    path = save_run("model", gain=2.0)
    ask = ("attack", "model", "-n", 60, "--attack", "pgd", "--steps", 5, "--exact")
    norms = ("--norm", "linf", "--norm", "l2", "--norm", "l1")
    found = one(*ask, *norms, "--eps", 0.01, "--eps", 0.1, "--eps", 0.4)
    assert [each["norm"] for each in found["results"]] == ["linf", "l2", "l1"]
    assert [each["eps"] for each in found["results"]] == [0.01, 0.1, 0.4]
    record = json.loads((path.parent / "attack-union.json").read_text())
    rows = zip(*(each["samples"]["broken_by"] for each in record["results"]), strict=True)
    correct = record["results"][0]["samples"]["correct"]
    left = sum(right and not any(row) for right, row in zip(correct, rows, strict=True))
    assert record["union"] == left / 60
    assert {each["union"] for each in found["results"]} == {left / 60}
    assert left / 60 <= min(each["robust"] for each in found["results"])
    shown = done(*ask, *norms)
    assert "withstand all of linf 0.15, l2 0.6, l1 2.5" in shown


def test_norms_and_radii_that_do_not_go_together_are_refused() -> None:
    save_run("model")
    ask = ("attack", "model", "-n", 5, "--norm", "linf", "--norm", "l1")
    refused(here(*ask, "--eps", 0.1), 2, "2 norms and 1 of their radii")
    refused(here(*ask[:-1], "linf"), 2, "a norm appears twice")
    refused(here(*ask, "--plot", "a.png"), 2, "the radius of one norm")


def test_autoattack_is_that_of_the_norm() -> None:
    """The standard version of Croce and Hein (2021): five starts, and five targets of APGD."""
    for norm, starts, targets in (("l1", 5, 5), ("l2", 1, None)):
        found = resolve_attacks(["autoattack"], AttackOptions(Threat(norm, 1.0)))
        assert [each.name for each in found] == ["apgd-ce", "apgd-t", "fab-t", "square"]
        assert [each.options["restarts"] for each in found] == [starts, 1, 1, 1]
        assert found[1].options.get("targets") == targets
        for each in found:
            each.check(10, targeted=False, norm=norm)
    model = linear(classes=10)
    few = batch(model, 3)
    search, plan = Surrogate(model), AttackOptions(Threat("l1", 1e-7))
    make_attack("apgd-t", targets=5)(search, few, plan)
    # A pass to rank the classes; toward each, a pass at the start of each of three balls.
    assert (search.forward, search.backward) == (3 * (1 + 5 * 103), 3 * 5 * 102)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_malt_tries_the_nearest_boundaries_of_a_linear_model(norm: str) -> None:
    model = linear(gain=3.0)
    few = batch(model, 12)
    weight, logits = model.net.weight, model(few.x)
    normal = (weight[few.y][:, None] - weight[None]).double()
    order = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    away = (logits.gather(1, few.y[:, None]) - logits) / torch.linalg.vector_norm(
        normal, order, dim=2
    )
    expected = away.nan_to_num(torch.inf).topk(3, largest=False).indices
    assert torch.equal(nearest_classes(Surrogate(model), few, norm), expected)
