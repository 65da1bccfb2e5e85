"""One step of an attack beside the published formula, written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.linear_model import SHAPE, Linear, batch, linear
from torch import Tensor

from jeatcli.core import pgd
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.rng import BatchRng
from jeatcli.core.threat import Threat
from jeatcli.robustness.attacks import ATTACKS, fab, square, squares
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.fab import Walk
from jeatcli.robustness.attacks.restarts import Broken
from jeatcli.robustness.attacks.surrogate import Surrogate


def test_fab_keeps_the_nearest_boundary_alone() -> None:
    """Against all K gradients at once."""
    model = linear(classes=7)
    images = batch(model, 20)
    for norm in ("linf", "l2"):
        value, normal = fab.nearest_boundary(Surrogate(model), images, images.x, norm)
        weight, logits = model.net.weight, model(images.x)
        assert isinstance(weight, Tensor)
        normals = weight[None] - weight[images.y][:, None]
        length = normals.abs().sum(2) if norm == "linf" else normals.norm(dim=2)
        leads = logits - logits.gather(1, images.y[:, None])
        distance = (leads.abs() / length).nan_to_num(torch.inf)
        k = distance.scatter(1, images.y[:, None], torch.inf).argmin(1)
        torch.testing.assert_close(value, leads[torch.arange(20), k])
        torch.testing.assert_close(normal.flatten(1), normals[torch.arange(20), k])


def bump(height: int, width: int, order: int = 2) -> Tensor:
    """Return the published sum over k of squares around the centre, of norm 1.

    They are 1/(k + 1)^2 high, for l1 1/(k + 1)^4.
    """
    found = torch.zeros(height, width)
    for k in range(max(height, width) // 2 + 1):
        rows = slice(max(height // 2 - k, 0), height // 2 + k + 1)
        found[rows, max(width // 2 - k, 0) : width // 2 + k + 1] += (k + 1.0) ** (-4 / order)
    return found / found.norm(order)


@pytest.mark.parametrize("order", [2, 1])
def test_a_step_of_square_is_the_published_one(order: int) -> None:
    """One channel at a time, with the random numbers written out."""
    generator = torch.Generator().manual_seed(3)
    x = 0.3 + 0.4 * torch.rand(1, 2, 9, 9, generator=generator)
    offset = torch.randn(1, 2, 9, 9, generator=generator)
    offset *= 0.4 / offset.norm(order)
    # Corners at the whole part of 6 u; turned, since 0.7 > 0.5; signs minus and plus.
    uniform = torch.tensor([[0.3, 0.6, 0.8, 0.1, 0.7, 0.2, 0.9]])
    shapes = (squares.L2Squares if order == 2 else squares.L1Squares)(0.5, 2)
    got = shapes.propose(x, x + offset, 300, shapes.prepare(x, 300, uniform[:, None])[:, 0])
    to, origin = (slice(1, 4), slice(3, 6)), (slice(4, 7), slice(0, 3))
    pair = torch.cat([bump(1, 3, order), -bump(2, 3, order)])
    pair = (pair / pair.norm(order)).T
    moved = offset[0].clone()
    for channel, sign in ((0, -1), (1, 1)):
        old = offset[0, channel]
        both = old[to].abs().pow(order).sum() + old[origin].abs().pow(order).sum()
        budget = (both + (0.5**order - 0.4**order) / 2) ** (1 / order)
        new = sign * pair + old[to] / old[to].norm(order)
        moved[channel][origin] = 0
        # Under l1 that of one channel counts for both, and the projection cuts it down.
        moved[channel][to] = new / new.norm(order) * budget * (2 if order == 1 else 1)
    if order == 2:
        placed = (x[0] + 0.5 * moved / moved.norm()).clamp(0, 1)
    else:
        assert moved.abs().sum() > 0.5
        placed = pgd.L1(0.5).project(x + moved, x)[0]
    torch.testing.assert_close(got[0], placed)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_of_fab_is_the_published_one(norm: str) -> None:
    """On a linear model and far from the edges of the box, where projections are closed forms."""
    model = Classifier(Linear(classes=2), (0.5,), (1.0,))
    x = 0.5 + 0.05 * torch.randn(30, *SHAPE, generator=torch.Generator().manual_seed(8))
    images = Batch(x, model(x).argmax(1), None, torch.arange(30), 1 - model(x).argmax(1))
    weight = model.net.weight
    assert isinstance(weight, Tensor)
    normal = (weight[1 - images.y] - weight[images.y]).view_as(x)

    def projection(point: Tensor) -> Tensor:
        logits = model(point)
        gap = logits.gather(1, 1 - images.y[:, None]) - logits.gather(1, images.y[:, None])
        gap = gap[:, :, None, None]
        if norm == "linf":
            return -gap * normal.sign() / normal.abs().sum((1, 2, 3), keepdim=True)
        return -gap * normal / normal.square().sum((1, 2, 3), keepdim=True)

    ball = pgd.ball(Threat(norm, 1e-9))
    walk = Walk(Surrogate(model), fab.class_boundary, AttackOptions(Threat(norm, 1e-9)), 2)
    aside = projection(x)
    # Some nearer to the boundary than a tenth of the way from the image.
    moved = x + torch.linspace(0.5, 1.1, 30)[:, None, None, None] * aside + 1e-3 * (x.flip(0) - 0.5)
    ahead = projection(moved)
    lengths = [ball.distance(d, torch.zeros_like(d)) for d in (ahead, aside)]
    share = (lengths[0] / (lengths[0] + lengths[1])).clamp(max=0.1).view(-1, 1, 1, 1)
    assert 0 < (share < 0.1).sum() < 30
    expected = (1 - share) * (moved + 1.05 * ahead) + share * (x + 1.05 * aside)
    torch.testing.assert_close(walk._step(images, moved, ball), expected)
    seen: list[Tensor] = []

    def watched(search: Surrogate, batch: Batch, moved: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(moved)
        return fab.class_boundary(search, batch, moved)

    replace(walk, boundary=watched).run(images, torch.arange(30), x, Broken(images))
    # Beyond the boundary by a twentieth, then back by a tenth of the way.
    torch.testing.assert_close(seen[1], x + 0.9 * 1.05 * projection(x))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_computes_where_its_images_are(name: str, norm: str) -> None:
    """Not on the default device; `meta`, which computes nothing, stands for another GPU."""

    class Plain(Linear):
        def features(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    model = Classifier(Plain(), (0.0,), (1.0,))
    images, options = batch(model, 4), AttackOptions(Threat(norm, 0.1))
    few = {key: 3 for key in ("steps", "queries") if key in ATTACKS[name].options}
    attack = make_attack(name, **few)
    moved = attack(model, images, options)
    with torch.device("meta"):
        assert torch.equal(attack(model, images, options), moved)


class Given(BatchRng):
    """Hands out numbers that are known, and keeps them."""

    def __init__(self) -> None:
        super().__init__(0)
        self.given: list[Tensor] = []

    def uniform(self, like: Tensor) -> Tensor:
        self.given.append(super().uniform(like))
        return self.given[-1]


def signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0)


def test_square_in_linf_written_out() -> None:
    """On images that are higher than wide, or wider than high, some pixels at the border."""
    for shape in ((2, 3, 13, 8), (2, 3, 8, 13)):
        x = (torch.rand(*shape, generator=torch.Generator().manual_seed(5)) * 1.4 - 0.2).clamp(0, 1)
        rng, shapes = Given(), squares.LinfSquares(0.1, 3)
        start = shapes.start(x, rng)
        assert rng.given[0].shape == (2, 3, 1, shape[3])
        torch.testing.assert_close(start, (x + 0.1 * signs(rng.given[0])).clamp(0, 1))
        uniform = rng.uniform(x.new_empty(2, 4, shapes.draws))
        prepared = shapes.prepare(x, 9, uniform)
        best = x + 0.03
        for n in range(2):
            for k in range(4):
                length = squares.side(9 + k, *shape[2:])
                rows, columns = (
                    int(uniform[n, k, place] * (side - length))
                    for place, side in enumerate(shape[2:])
                )
                change = torch.zeros(shape[1:])
                window = change[:, rows : rows + length, columns : columns + length]
                window += 0.2 * signs(uniform[n, k, 2:])[:, None, None]
                expected = (best[n] + change).clamp(x[n] - 0.1, x[n] + 0.1).clamp(0, 1)
                got = shapes.propose(x, best, 9 + k, prepared[:, k])[n]
                torch.testing.assert_close(got, expected)
        torch.testing.assert_close(prepared[:, :, :3], 0.2 * signs(uniform[:, :, 2:]))


@pytest.mark.parametrize("shape", [(2, 2, 13, 15), (2, 1, 11, 4), (1, 3, 7, 6)])
def test_square_in_l2_begins_with_tiles(shape: tuple[int, int, int, int]) -> None:
    n, channels, height, width = shape
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(5)).round()
    rng, shapes = Given(), squares.L2Squares(0.9, channels)
    start = shapes.start(x, rng)
    length = max(height // 5, 1)
    begin = (height - 5 * length) // 2
    tops = [begin + k * length for k in range(height) if 0 <= begin + k * length <= height - length]
    lefts = [begin + k * length for k in range(width) if 0 <= begin + k * length <= width - length]
    offset, given = torch.zeros(shape), iter(rng.given)
    pair = torch.cat([bump(length // 2, length), -bump(length - length // 2, length)])
    for top in tops:
        for left in lefts:
            uniform = next(given)
            for k in range(n):
                tile = pair.T if uniform[k, 0] > 0.5 else pair
                tile = signs(uniform[k, 1:])[:, None, None] * tile / pair.norm()
                offset[k, :, top : top + length, left : left + length] = tile
    assert next(given, None) is None
    scaled = 0.9 * offset / offset.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(start, (x + scaled).clamp(0, 1))


def test_sides_of_squares_are_odd_in_l2_and_fit_either_side() -> None:
    assert [squares.side(0, 20, 20, least) for least in (1, 3)] == [18, 19]
    assert squares.side(0, 4, 100) == squares.side(0, 100, 4) == 4


def test_a_tie_that_is_lost_is_broken() -> None:
    """The first of two equal logits is the prediction."""

    class Even(Linear):
        def head(self, features: Tensor) -> Tensor:
            return 0 * super().head(features) + torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])

    model = Classifier(Even(), (0.0,), (1.0,))
    x = batch(linear(), 1).x
    for label, lost in ((1, True), (0, False)):
        images = Batch(x, torch.tensor([label]), None, torch.arange(1))
        value, broken = square._query(Surrogate(model), images, x)
        assert (value.tolist(), broken.tolist()) == ([0.0], [lost])
