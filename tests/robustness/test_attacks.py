"""The parts of AutoAttack against closed forms, solvers and the published schedules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.linear_model import L2, LINF, SHAPE, Linear, batch, distances, linear
from scipy.optimize import linprog
from torch import Tensor

from jeatcli.core import pgd
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.rng import BatchRng
from jeatcli.core.threat import Threat
from jeatcli.robustness.attacks import apgd, squares
from jeatcli.robustness.attacks.ascent import Ascent, Halving
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.fab import displacement, fab_t
from jeatcli.robustness.attacks.restarts import Broken
from jeatcli.robustness.attacks.surrogate import Surrogate


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("name", ["apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "fab", "square"])
def test_verdicts_on_a_linear_model_are_those_of_the_closed_form(name: str, threat: Threat) -> None:
    model = linear()
    images = batch(model)
    radius = Threat(threat.norm, distances(model, images, threat.norm).median().item())
    plan = AttackOptions(radius, queries=1000 if name == "square" else None)
    moved = make_attack(name, plan)(model, images, plan)
    broken = images.broken(model(moved))
    near = distances(model, images, threat.norm)
    # No image beyond its distance; within it the attacks that use the gradient miss none.
    assert not (broken & (near > radius.eps * 1.0001)).any()
    if name != "square":
        assert (broken == (near < radius.eps * 0.999)).float().mean() > 0.97
    else:
        assert broken.sum() >= 0.25 * (near < radius.eps).sum()


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t", "square", "cw"])
def test_an_image_fares_the_same_alone_and_in_company(name: str) -> None:
    model = linear()
    images = batch(model, 12)
    plan = AttackOptions(LINF, queries=100 if name == "square" else None)
    together = make_attack(name, plan)(model, images, plan)
    for place in range(12):
        alone = make_attack(name, plan)(model, images.take(torch.tensor([place])), plan)
        torch.testing.assert_close(alone, together[place : place + 1])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projections_solve_their_problem(norm: str) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(30, *SHAPE, generator=generator)
    normal = torch.randn(30, *SHAPE, generator=generator)
    normal[:, :, 0] = 0
    gap = torch.randn(30, generator=generator) * 4
    move = displacement(x, normal, gap, norm)
    assert ((x + move > -1e-6) & (x + move < 1 + 1e-6)).all()
    for k in range(30):
        best = shortest(x[k].flatten(), normal[k].flatten(), gap[k], norm)
        got = move[k].flatten()
        if best is None:  # the plane misses the box: the farthest corner
            toward = -gap[k].sign() * normal[k].flatten()
            corner = torch.where(toward > 0, 1 - x[k].flatten(), -x[k].flatten())
            torch.testing.assert_close(got[toward != 0], corner[toward != 0])
            continue
        reached = float(gap[k] + (normal[k].flatten() * got).sum())
        assert abs(reached) < 1e-4
        length = got.abs().max() if norm == "linf" else got.norm()
        assert float(length) == pytest.approx(best, abs=1e-4)


def shortest(x: Tensor, normal: Tensor, gap: Tensor, norm: str) -> float | None:
    """Return the length of the shortest way to the plane, by other means; None if there is none."""
    toward = -gap.sign() * normal
    room = torch.where(toward > 0, 1 - x, x).double().numpy()
    weight, need = toward.abs().double().numpy(), float(gap.abs())
    if weight @ room < need:
        return None
    if norm == "linf":
        d = len(x)
        found = linprog(
            np.eye(d + 1)[d],
            A_ub=np.hstack([np.eye(d), -np.ones((d, 1))]),
            b_ub=np.zeros(d),
            A_eq=[[*weight, 0.0]],
            b_eq=[need],
            bounds=[*((0, r) for r in room), (0, None)],
        )
        return float(found.fun)
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        reached = weight @ np.minimum(middle * weight, room)
        low, high = (middle, high) if reached < need else (low, middle)
    return float(np.linalg.norm(np.minimum(high * weight, room)))


def test_apgd_halves_its_steps_at_the_published_points() -> None:
    """On a loss that never rises every check halves; the checks are those of the paper."""
    sizes: list[float] = []

    class Watched(Ascent):
        def _check(self, rows: Halving, period: int) -> Halving:
            after = super()._check(rows, period)
            steps.append(period)
            sizes.append(after.size.flatten()[0].item())
            return after

    steps: list[int] = []
    model = linear()
    images = batch(model, 3)
    ascent = Watched(Surrogate(model), lambda logits, rows: 0 * logits.sum(1), pgd.Linf(0.01), 100)
    ascent.run(images, torch.arange(3), images.x, Broken(images))
    assert np.cumsum(steps).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sizes == pytest.approx([0.02 / 2**k for k in range(1, 9)])


def test_apgd_goes_back_to_the_best_point_when_it_halves() -> None:
    model = linear()
    images = batch(model, 4)
    ascent = Ascent(Surrogate(model), apgd.cross_entropy, pgd.Linf(0.01), 100)
    best = torch.rand(4, *SHAPE)
    four = torch.zeros(4)
    rows = Halving(
        images,
        torch.arange(4),
        moved=images.x,
        gradient=images.x,
        best=best,
        best_gradient=2 * best,
        highest=four + 1,
        size=torch.ones(4, 1, 1, 1),
        last=images.x,
        highest_before=torch.tensor([0.0, 0.0, 1.0, 1.0]),
        value=four,
        rises=torch.tensor([16.0, 17.0, 17.0, 17.0]),
        halved=torch.tensor([False, False, False, True]),
    )
    after = ascent._check(rows, 22)
    # 16 of 22 rises are too few; no better point than before halves, but not twice in a row.
    assert after.halved.tolist() == [True, False, True, False]
    assert after.size.flatten().tolist() == [0.5, 1.0, 0.5, 1.0]
    back = after.halved.view(-1, 1, 1, 1)
    assert torch.equal(after.moved, torch.where(back, best, images.x))
    assert torch.equal(after.gradient, torch.where(back, 2 * best, images.x))


def test_fab_ends_at_the_nearest_point_of_the_boundary() -> None:
    model = linear(classes=2)
    images = batch(model, 20)
    near = distances(model, images, "l2")
    for factor, expected in ((1.01, True), (0.99, False)):
        # Farther away the pixels' range shapes the boundary too.
        for k in (near < 0.4).nonzero().flatten().tolist():
            plan = AttackOptions(Threat("l2", factor * near[k].item()))
            one = images.take(torch.tensor([k]))
            moved = fab_t(Surrogate(model), one, plan, steps=20, restarts=1)
            assert bool(one.broken(model(moved))) is expected


def test_sides_of_the_squares_follow_the_schedule() -> None:
    queries = (0, 10, 11, 50, 51, 201, 501, 1001, 2001, 4001, 6000, 6001, 8000, 8001)
    sides = [squares.side(query, 32, 32) for query in queries]
    assert sides == [29, 29, 20, 20, 14, 10, 7, 5, 4, 3, 3, 2, 2, 1]
    assert squares.side(0, 8, 8, least=3) == 7
    assert squares.side(4999, 8, 8, least=3) == 3


@pytest.mark.parametrize(
    "ball", [pgd.Linf(0.2), pgd.L2(0.8), pgd.L1(4.0)], ids=["linf", "l2", "l1"]
)
def test_proposals_stay_in_the_ball_and_change_a_square(ball: pgd.Ball) -> None:
    x = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    shapes = squares.proposals(ball, 3)
    rng = BatchRng(0)
    best = shapes.start(x, rng)
    for query in (0, 30, 600, 4500):
        uniform = rng.uniform(x.new_empty(16, 1, shapes.draws))
        moved = shapes.propose(x, best, query, shapes.prepare(x, query, uniform)[:, 0])
        assert (ball.distance(moved, x) <= ball.eps + 1e-6).all()
        assert ((moved >= 0) & (moved <= 1)).all()
        assert not torch.equal(moved, best)
    if isinstance(ball, pgd.Linf):
        side = squares.side(4500, 12, 12)
        assert ((moved != best).any(1).flatten(1).sum(1) <= side * side).all()


def test_bumps_have_the_published_shape() -> None:
    """A bump of 3 x 3 is 1 + 1/4 in the middle and 1/4 around it, scaled to norm 1."""
    bump = squares._bump(3, 3, 2)
    torch.testing.assert_close(bump / bump[0, 0], torch.tensor([[1.0] * 3, [1, 5, 1], [1] * 3]))
    pair = squares._bumps(6, torch.tensor([0.0, 1.0]), 2)
    assert torch.equal(pair[0, 0], pair[1, 0].T)
    torch.testing.assert_close(pair.square().sum((1, 2, 3)), torch.ones(2))
    assert (pair[0, 0, :3] > 0).all()
    assert (pair[0, 0, 3:] < 0).all()
    sharp = squares._bump(3, 3, 1)
    torch.testing.assert_close(sharp * 25, torch.tensor([[1.0] * 3, [1, 17, 1], [1] * 3]))
    assert squares._bumps(6, torch.zeros(1), 1).abs().sum() == pytest.approx(1)


def test_a_target_is_reached_or_the_image_counts_as_robust() -> None:
    model = linear()
    images = batch(model, 30)
    target = (images.y + 1) % 5
    aimed = Batch(images.x, images.y, target, images.index)
    for name in ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "fmn", "malt", "square"):
        plan = AttackOptions(Threat("linf", 0.3), queries=200 if name == "square" else None)
        moved = make_attack(name, plan)(model, aimed, plan)
        least = 0.15 if name == "square" else 0.3
        assert (model(moved).argmax(1) == target).float().mean() > least, name


def test_a_search_in_bf16_is_confirmed_in_fp32() -> None:
    """At the boundary bf16 errs: what it takes for broken must be broken in float32."""
    model = linear(gain=30.0)
    coarse = Surrogate(model, torch.bfloat16)
    many = batch(model, 3000)
    logits = coarse(many.x)
    assert logits.dtype is torch.float32
    assert model.autocast is None
    assert many.broken(logits).any()
    assert not coarse.broken(many, many.x, logits).any()
    images = many.take(torch.arange(60))
    near = distances(model, images, "linf")
    plan = AttackOptions(Threat("linf", near.median().item()))
    for name in ("apgd-ce", "apgd-t", "fab-t"):
        moved = make_attack(name)(coarse, images, plan)
        broken = images.broken(model(moved))
        assert (broken == (near < plan.threat.eps)).float().mean() > 0.9, name


def test_random_classifiers_are_attacked_by_the_mean_of_their_gradients() -> None:
    passes = []

    class Noisy(Linear):
        def features(self, x: Tensor) -> Tensor:
            passes.append(len(x))
            return x.flatten(1) + 0.1 * torch.randn(len(x), 16, generator=generator)

    generator = torch.Generator().manual_seed(0)
    model = Classifier(Noisy(), (0.0,), (1.0,))
    x = batch(linear(), 8).x
    images = Batch(x, linear()(x).argmax(1), None, torch.arange(8))
    search = Surrogate(model)
    radius = AttackOptions(Threat("linf", 0.001))
    apgd.apgd_ce(search, images, radius, steps=4, restarts=1, draws=20)
    # A start and three steps with 20 gradients each; the last step needs none.
    assert len(passes) == 4 * 20 + 1
    assert search.forward == sum(passes)


def test_what_a_coarse_square_raised_is_judged_in_fp32() -> None:
    """At the edge bf16 hides what is broken: the best points are looked at in float32."""
    model = linear(gain=30.0)
    images = batch(model, 3000)
    plan = AttackOptions(
        Threat("linf", distances(model, images, "linf").quantile(0.1).item()), queries=40
    )
    coarse = Surrogate(model, torch.bfloat16)
    moved = make_attack("square", plan)(coarse, images, plan)
    broken = images.broken(model(moved))
    assert (broken & ~images.broken(coarse(moved))).any()


def test_targets_are_ranked_by_the_plain_network() -> None:
    model = linear(classes=40)
    images = batch(model, 500)
    ranked = model(images.x).scatter(1, images.y[:, None], -torch.inf).topk(9).indices
    assert torch.equal(Surrogate(model, torch.bfloat16).likeliest(images), ranked)
