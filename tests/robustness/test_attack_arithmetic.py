"""Steps of attacks where they are easy to get wrong: borders, ties, counts, the first and last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.linear_model import LINF, SHAPE, Linear, batch, linear
from torch import Tensor

from jeatcli.core import pgd
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.rng import BatchRng
from jeatcli.core.threat import Threat
from jeatcli.robustness.attacks import apgd, fab, square, squares
from jeatcli.robustness.attacks import pgd as projected
from jeatcli.robustness.attacks.ascent import Ascent, Halving
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch, predictions
from jeatcli.robustness.attacks.fab import Walk
from jeatcli.robustness.attacks.restarts import Broken
from jeatcli.robustness.attacks.surrogate import Surrogate


def at_the_border(n: int = 6) -> Tensor:
    """Return images of which many pixels are nearly black or white."""
    x = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(3)) + 0.5
    return x.clamp(0.01, 0.99)


def weights(model: Classifier) -> Tensor:
    assert isinstance(model.net.weight, Tensor)
    return model.net.weight


def test_what_is_broken_as_it_is_needs_no_walk() -> None:
    model = linear()
    images = batch(model, 4)
    wrong = Batch(images.x, (images.y + 1) % 5, None, images.index)
    for name, passes in (("fab", 4), ("fab-t", 8)):  # the latter ranks the classes
        search = Surrogate(model)
        assert torch.equal(make_attack(name)(search, wrong, AttackOptions(LINF)), images.x)
        assert (search.forward, search.backward) == (passes, 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_nearest_boundary_is_that_of_the_norm(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the gradients are; a class that has none is out of reach."""

    class Biased(Linear):
        def head(self, features: Tensor) -> Tensor:
            return super().head(features) + torch.tensor([0.0, 0.0, 0.0, -1e-4, 0.0])

    net = Biased(gain=1e-3)
    net.weight[3] = net.weight[1]
    model = Classifier(net, (0.0,), (1.0,))
    images = batch(model)
    normals = net.weight[None] - net.weight[images.y][:, None]
    length = normals.abs().sum(2) if norm == "linf" else normals.norm(dim=2)
    logits = model(images.x)
    leads = logits - logits.gather(1, images.y[:, None])
    k = torch.where(length > 0, leads.abs() / length, torch.inf).argmin(1)
    seen: list[tuple[Tensor, Tensor]] = []
    nearest = fab.nearest_boundary

    def watched(*given: Any, norm: str) -> tuple[Tensor, Tensor]:
        seen.append(nearest(*given, norm))
        return seen[-1]

    monkeypatch.setattr(fab, "nearest_boundary", watched)
    make_attack("fab", steps=1)(model, images, AttackOptions(Threat(norm, 1e-9)))
    every = torch.arange(len(k))
    torch.testing.assert_close(seen[0][0], leads[every, k])
    torch.testing.assert_close(seen[0][1].flatten(1), normals[every, k])
    assert (images.y == 1).any()


def test_a_class_to_reach_must_lead_all_others() -> None:
    model = linear()
    images = batch(model, 8)
    target = (images.y + 2) % 5
    aimed = Batch(images.x, images.y, target, images.index, target)
    value, normal = fab.class_boundary(Surrogate(model), aimed, images.x)
    logits, every = model(images.x), torch.arange(8)
    # The leader is the class of the image.
    torch.testing.assert_close(value, logits[every, target] - logits[every, images.y])
    slope = weights(model)[target] - weights(model)[images.y]
    torch.testing.assert_close(normal.flatten(1), slope)


def test_a_step_of_fab_ends_in_the_range_of_pixels() -> None:
    model, x = linear(), at_the_border()
    images = Batch(x, model(x).argmax(1), None, torch.arange(6), model(x).argmin(1))
    walk = Walk(Surrogate(model), fab.class_boundary, AttackOptions(LINF), 1)
    point = walk._step(images, x, pgd.ball(LINF))
    assert point.min() == 0
    assert point.max() == 1


def test_a_walk_on_a_coarse_network_ends_where_the_exact_one_falls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that do not fall are drawn back and walk on; the others leave."""
    model = linear()
    images = batch(model, 6)
    rows = Batch(images.x, images.y, None, images.index, (images.y + 1) % 5)
    search = Surrogate(model, torch.bfloat16)
    asked: list[list[int]] = []

    def exact(part: Batch, moved: Tensor) -> Tensor:
        asked.append(part.index.tolist())
        assert len(moved) == len(part)
        return part.index % 2 == 0

    monkeypatch.setattr(search, "breaks_exact_model", exact)
    walk = Walk(search, fab.class_boundary, AttackOptions(Threat("linf", 1.0)), 2)
    broken = Broken(images)
    walk.run(rows, torch.arange(6), images.x, broken)
    assert asked == [[0, 1, 2, 3, 4, 5], [1, 3, 5]]
    assert broken.mask.tolist() == [True, False] * 3
    assert images.broken(model(broken.images)).tolist() == broken.mask.tolist()


def rows_of(x: Tensor, moved: Tensor, last: Tensor, gradient: Tensor) -> Halving:
    n = len(x)
    nothing = torch.zeros(n)
    images = Batch(x, nothing.long(), None, torch.arange(n))
    size = nothing.view(-1, 1, 1, 1) + 0.5
    return Halving(
        *(images, images.index, moved, gradient, moved, gradient, nothing, size),
        last=last,
        highest_before=nothing,
        value=nothing,
        rises=nothing,
        halved=nothing.bool(),
    )


@pytest.mark.parametrize("ball", [pgd.Linf(0.3), pgd.L2(0.9)], ids=["linf", "l2"])
def test_a_step_of_apgd_is_clipped_before_and_after_its_momentum(ball: pgd.Ball) -> None:
    x, rng = at_the_border(), BatchRng(0)
    moved, last, gradient = ball.start(x, rng), ball.start(x, rng), rng.normal(x)
    ascent = Ascent(Surrogate(linear()), apgd.cross_entropy, ball, 10)
    ahead = ball.project(moved + ball.step(gradient, 0.5), x)
    assert ahead.min() < 0
    assert ahead.max() > 1
    mixed = moved + 0.75 * (ahead.clamp(0, 1) - moved) + 0.25 * (moved - last)
    mixed = ball.project(mixed, x)
    assert mixed.min() < 0
    assert mixed.max() > 1
    got = ascent._move(rows_of(x, moved, last, gradient), 0.75)
    torch.testing.assert_close(got, mixed.clamp(0, 1))


def test_the_first_step_of_apgd_has_no_momentum_and_the_last_point_no_gradient() -> None:
    model, ball = linear(), pgd.L2(0.2)
    images = batch(model, 5)
    start = ball.on_sphere(images.x, BatchRng(0))
    points: list[Tensor] = []

    class Watched(Surrogate):
        def __call__(self, x: Tensor) -> Tensor:
            points.append(x)
            return super().__call__(x)

    def loss(logits: Tensor, rows: Batch) -> Tensor:
        """Raise what keeps them whole."""
        return logits[:, 1]

    checks: list[int] = []

    class Checked(Ascent):
        def _check(self, rows: Halving, period: int) -> Halving:
            checks.append(period)
            return super()._check(rows, period)

    ones = images.y == 1
    still, start = images.take(ones), start[ones]
    ascent = Checked(Watched(model), loss, ball, 4)
    ascent.run(still, torch.arange(len(still)), start, Broken(still))
    assert [point.requires_grad for point in points] == [True] * 4 + [False]
    slope = weights(model)[1] / weights(model)[1].norm()
    ahead = start + 0.4 * slope.view(1, *SHAPE)
    torch.testing.assert_close(points[1].detach(), ball.project(ahead, still.x).clamp(0, 1))
    # Of so few steps every one is checked.
    assert checks == [1, 1, 1, 1]


def test_gradients_of_random_losses_are_averaged() -> None:
    model = linear()
    images = batch(model, 3)
    scales: Iterator[float] = iter([1.0, 2.0, 6.0])

    def loss(logits: Tensor, rows: Batch) -> Tensor:
        return next(scales) * logits[:, 0]

    ascent = Ascent(Surrogate(model), loss, pgd.Linf(0.1), 5, draws=3)
    _, gradient, _ = ascent._evaluate(images, images.x)
    torch.testing.assert_close(gradient.flatten(1), 3 * weights(model)[0].expand(3, -1))


def test_the_best_point_of_apgd_is_tried_on_the_judge() -> None:
    model, judge = linear(), Classifier(Linear(gain=-1.0), (0.0,), (1.0,))
    images = batch(model, 3)
    search = Surrogate(model, victim=judge)
    broken = Broken(images)
    ascent = Ascent(search, lambda logits, rows: logits[:, 0], pgd.Linf(1e-6), 1)
    ascent.run(images, images.index, images.x, broken)
    assert broken.mask.all()
    torch.testing.assert_close(broken.images, images.x, rtol=0, atol=2e-6)
    assert not torch.equal(broken.images, images.x)


@pytest.mark.parametrize(("given", "size"), [(None, 2.5 * 0.2 / 7), (0.03, 0.03)])
def test_the_steps_of_pgd_cover_the_ball(
    given: float | None, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[float] = []
    original = pgd.ascend

    def ascend(value: Any, x: Tensor, ball: pgd.Ball, **settings: Any) -> Tensor:
        sizes.append(settings["step_size"])
        return original(value, x, ball, **settings)

    monkeypatch.setattr(projected.core, "ascend", ascend)
    model = linear()
    make_attack("pgd", steps=7, step_size=given)(
        model, batch(model, 2), AttackOptions(Threat("linf", 0.2))
    )
    assert sizes == [pytest.approx(size)]


@pytest.mark.parametrize("name", ["fgsm", "pgd", "fab"])
def test_passes_add_up(name: str) -> None:
    model = linear()
    images, options = batch(model, 2), AttackOptions(Threat("linf", 1e-7))
    once, twice = Surrogate(model), Surrogate(model)
    make_attack(name)(once, images, options)
    for _ in range(2):
        make_attack(name)(twice, images, options)
    assert (twice.forward, twice.backward) == (2 * once.forward, 2 * once.backward)


def test_where_apgd_stands_after_a_step_and_after_a_check() -> None:
    x = at_the_border(2)
    rows = rows_of(x, x, x + 1, x + 2)
    rows = replace(rows, best=x + 3, best_gradient=x + 4, highest=torch.tensor([1.0, 2.0]))
    rows = replace(rows, value=torch.tensor([1.5, 0.5]), rises=torch.tensor([4.0, 5.0]))
    ascent = Ascent(Surrogate(linear()), apgd.cross_entropy, pgd.Linf(0.1), 10)
    after = ascent._advance(rows, x + 5, torch.tensor([1.25, 2.0]), x + 6)
    # The first rises above its highest, the second above its last step; a tie is no rise.
    assert torch.equal(after.moved, x + 5)
    assert torch.equal(after.last, x)
    assert torch.equal(after.gradient, x + 6)
    assert torch.equal(after.best, torch.stack([x[0] + 5, x[1] + 3]))
    assert torch.equal(after.best_gradient, torch.stack([x[0] + 6, x[1] + 4]))
    assert after.highest.tolist() == [1.25, 2.0]
    assert after.value.tolist() == [1.25, 2.0]
    assert after.rises.tolist() == [4.0, 6.0]
    checked = ascent._check(replace(after, rises=torch.tensor([3.0, 3.25])), 4)
    assert checked.halved.tolist() == [True, False]  # three of four rises are too few
    assert checked.highest_before.tolist() == [1.25, 2.0]
    assert checked.rises.tolist() == [0, 0]


def test_proposals_of_square_start_at_the_best_point_with_numbers_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a network whose margin never changes the best point is the start; a tie is no rise."""

    class Flat(Linear):
        def head(self, features: Tensor) -> Tensor:
            return 0 * super().head(features) + torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])

    monkeypatch.setattr(square, "_BLOCK", 2)
    model = Classifier(Flat(), (0.0,), (1.0,))
    x = batch(linear(), 3).x
    images = Batch(x, torch.zeros(3).long(), None, torch.arange(3))
    points: list[Tensor] = []

    class Watched(Surrogate):
        def __call__(self, x: Tensor) -> Tensor:
            points.append(x.clone())
            return super().__call__(x)

    make_attack("square", queries=5)(Watched(model), images, AttackOptions(LINF, seed=4))
    shapes, rng = squares.proposals(pgd.ball(LINF), 1), images.rng(4, 0)
    start = shapes.start(x, rng)
    expected = [start]
    for first in (0, 2, 4):
        prepared = shapes.prepare(x, first, rng.uniform(x.new_empty(3, 2, shapes.draws)))
        expected += [shapes.propose(x, start, first + k, prepared[:, k]) for k in (0, 1)]
    assert len(points) == 6
    assert all(torch.equal(*pair) for pair in zip(points, expected[:6], strict=True))
    assert not torch.equal(points[1], points[3])


@pytest.mark.parametrize("name", ["apgd-ce", "square"])
def test_what_is_broken_leaves_at_once(name: str) -> None:
    model = linear()
    images = batch(model)
    sizes: list[int] = []
    gone: list[int] = []

    class Watched(Surrogate):
        def __call__(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            gone.append(0)
            return super().__call__(x)

        def broken(self, batch: Batch, moved: Tensor, logits: Tensor) -> Tensor:
            found = super().broken(batch, moved, logits)
            gone[-1] = int(found.sum())
            return found

    few = {"queries": 12} if name == "square" else {"steps": 12}
    make_attack(name, **few)(Watched(model), images, AttackOptions(Threat("linf", 0.15)))
    assert sizes[0] == len(images)
    assert sizes[-1] < sizes[0]
    assert sizes[1:] == [size - left for size, left in zip(sizes, gone, strict=True)][:-1]


def test_logits_of_nan_predict_no_class() -> None:
    logits = torch.tensor([[0.0, torch.nan], [1.0, 2.0], [3.0, 2.0]])
    assert predictions(logits).tolist() == [-1, 1, 0]
