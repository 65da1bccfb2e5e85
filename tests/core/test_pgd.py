"""The balls, the objectives, and PGD against closed forms on a linear model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jeatcli.core import objectives, pgd
from jeatcli.core.rng import BatchRng
from jeatcli.core.threat import Threat
from jeatcli.errors import UsageProblem

LINF, L2 = pgd.Linf(0.1), pgd.L2(0.7)


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 3, 4, 5, generator=torch.Generator().manual_seed(1))


class Linear:
    """f(x) = W x: every attack on it has a closed form."""

    def __init__(self, classes: int = 5) -> None:
        self.weight = torch.randn(classes, 60, generator=torch.Generator().manual_seed(2))

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


@pytest.mark.parametrize("ball", [LINF, L2], ids=["linf", "l2"])
def test_a_start_is_in_the_ball_and_in_range(ball: pgd.Ball) -> None:
    x = images(200)
    start = ball.start(x, BatchRng(0))
    distance = ball.distance(start, x)
    assert (distance <= ball.eps + 1e-6).all()
    assert distance.std() > 0
    assert ((start >= 0) & (start <= 1)).all()


def test_starts_fill_the_ball() -> None:
    """Each pixel is uniform under linf; the radius is uniform under l2, the direction any."""
    x = torch.full((2000, 3, 4, 5), 0.5)
    offset = pgd.Linf(0.1).start(x, BatchRng(0)) - x
    torch.testing.assert_close(offset, 0.1 * (2 * BatchRng(0).uniform(x) - 1))
    assert offset.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.01)
    assert offset.mean().item() == pytest.approx(0, abs=1e-3)
    ball = pgd.L2(0.3)
    start = ball.start(x, BatchRng(0))
    radius = ball.distance(start, x)
    assert radius.mean().item() == pytest.approx(0.15, rel=0.02)
    assert radius.std().item() == pytest.approx(0.3 / 12**0.5, rel=0.03)
    assert (start - x).mean().item() == pytest.approx(0, abs=1e-3)
    normal = BatchRng(0).normal(x)
    along = torch.nn.functional.cosine_similarity((start - x).flatten(1), normal.flatten(1))
    torch.testing.assert_close(along, torch.ones(2000))


@pytest.mark.parametrize("ball", [LINF, L2], ids=["linf", "l2"])
def test_points_on_the_sphere_have_the_radius(ball: pgd.Ball) -> None:
    x = torch.full((50, 3, 4, 5), 0.5)
    point = ball.on_sphere(x, BatchRng(0))
    torch.testing.assert_close(ball.distance(point, x), torch.full((50,), ball.eps))
    drawn = 2 * BatchRng(0).uniform(x) - 1 if ball is LINF else BatchRng(0).normal(x)
    along = torch.nn.functional.cosine_similarity((point - x).flatten(1), drawn.flatten(1))
    torch.testing.assert_close(along, torch.ones(50))
    for pixel in (0.0, 1.0):
        clipped = ball.on_sphere(torch.full((50, 3, 4, 5), pixel), BatchRng(0))
        assert ((clipped >= 0) & (clipped <= 1)).all()
        assert not torch.equal(clipped, torch.full_like(clipped, pixel))


@pytest.mark.parametrize("ball", [LINF, L2], ids=["linf", "l2"])
def test_without_a_gradient_there_is_no_step(ball: pgd.Ball) -> None:
    gradient = torch.zeros(2, 3, 4, 5)
    gradient[0, 0, 0, 0] = -1e-6
    step = ball.step(gradient, 0.3)
    expected = torch.zeros_like(step)
    expected[0, 0, 0, 0] = -0.3
    torch.testing.assert_close(step, expected)


def test_of_equal_iterates_the_first_is_kept() -> None:
    x = torch.full((2, 1, 1, 1), 0.5)
    flat = pgd.ascend(
        lambda moved: 0 * moved.flatten() + 1,
        x,
        pgd.L2(0.3),
        steps=2,
        step_size=0.1,
        start=x + 0.1,
        keep_best=True,
    )
    first, _ = pgd.better(x + 1, torch.ones(2), x, torch.ones(2))
    assert torch.equal(flat, x + 0.1)
    assert torch.equal(first, x)


def test_the_hook_sees_every_step_and_says_where_the_next_begins() -> None:
    x = torch.full((2, 1, 1, 1), 0.5)
    seen: list[tuple[int, float, float, float]] = []

    def hook(step: int, x: Tensor, moved: Tensor, values: Tensor) -> Tensor | None:
        seen.append((step, x[0].item(), moved[0].item(), values[0].item()))
        return None if step == 2 else moved + 0.1

    def value(moved: Tensor) -> Tensor:
        return 2 * moved.flatten()

    settings = {"steps": 9, "step_size": 0.01}
    for keep_best in (False, True):
        seen.clear()
        end = pgd.ascend(value, x, pgd.Linf(0.3), hook=hook, keep_best=keep_best, **settings)
        steps = [(0, 0.5, 0.51, 1.0), (1, 0.61, 0.62, 1.22), (2, 0.72, 0.73, 1.44)]
        for one, other in zip(seen, steps, strict=True):
            assert one == pytest.approx(other)
        assert end.flatten().tolist() == pytest.approx([0.72, 0.72])
    assert not end.requires_grad


@pytest.mark.parametrize("ball", [LINF, L2], ids=["linf", "l2"])
def test_projection_is_the_identity_inside_and_nearest_outside(ball: pgd.Ball) -> None:
    x = images()
    inside = x + 0.01
    torch.testing.assert_close(ball.project(inside, x), inside)
    far = x + 3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(ball.distance(ball.project(far, x), x), torch.full((6,), ball.eps))


@pytest.mark.parametrize("ball", [LINF, L2], ids=["linf", "l2"])
def test_a_step_has_its_size_and_rises(ball: pgd.Ball) -> None:
    gradient = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(4))
    step = ball.step(gradient, 0.3)
    torch.testing.assert_close(ball.distance(step, torch.zeros_like(step)), torch.full((6,), 0.3))
    assert ((step * gradient).flatten(1).sum(1) > 0).all()


def test_linf_pgd_on_a_linear_model_ends_in_the_corner() -> None:
    x, y, model = images(), torch.tensor([0, 1, 2, 3, 4, 0]), Linear()
    value = objectives.objective("joint", model, x, y)
    moved = pgd.ascend(value, x, LINF, steps=5, step_size=0.05)
    corner = (x - 0.1 * model.weight[y].sign().view_as(x)).clamp(0, 1)
    torch.testing.assert_close(moved, corner)


def test_l2_pgd_on_a_linear_model_moves_straight() -> None:
    x, y, model = images() * 0.2 + 0.4, torch.tensor([0, 1, 2, 3, 4, 0]), Linear()
    ball = pgd.L2(0.25)  # so small that no pixel reaches 0 or 1
    moved = pgd.ascend(objectives.objective("joint", model, x, y), x, ball, steps=10, step_size=0.1)
    direction = model.weight[y] / model.weight[y].norm(dim=1, keepdim=True)
    torch.testing.assert_close(moved, x - 0.25 * direction.view_as(x))


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("ball", [LINF, L2], ids=["linf", "l2"])
def test_every_attack_rises_and_keeps_to_its_ball(
    name: str, targeted: bool, ball: pgd.Ball
) -> None:
    x, y, model = images(), torch.tensor([0, 1, 2, 3, 4, 0]), Linear()
    target = (y + 2) % 5 if targeted else None
    value = objectives.objective(name, model, x, y, target)
    start = ball.start(x, BatchRng(5))
    moved = pgd.ascend(value, x, ball, steps=20, step_size=0.02, start=start, keep_best=True)
    assert (value(moved) >= value(start)).all()
    assert value(moved).mean() > value(start).mean()
    assert (ball.distance(moved, x) <= ball.eps + 1e-6).all()
    assert ((moved >= 0) & (moved <= 1)).all()
    assert not moved.requires_grad


def test_objectives_have_their_published_values() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.5, -1.0], [0.0, 4.0, 2.0, 1.0]])
    y, target = torch.tensor([0, 2]), torch.tensor([1, 3])
    torch.testing.assert_close(objectives.margin(logits, y), torch.tensor([-2.0, 2.0]))
    torch.testing.assert_close(objectives.dlr(logits, y), torch.tensor([-2 / 2.5, 2 / 3]))
    by_hand = torch.tensor([(1 - 3) / (3 - (0.5 - 1) / 2), (1 - 2) / (4 - (1 + 0) / 2)])
    torch.testing.assert_close(objectives.targeted_dlr(logits, y, target), by_hand)
    p, q = logits.softmax(1), logits.flip(0).softmax(1)
    torch.testing.assert_close(objectives.kl(logits.flip(0), logits), (p * (p / q).log()).sum(1))


def test_ratios_of_few_or_of_equal_logits() -> None:
    three = objectives.dlr(torch.tensor([[3.0, 1.0, 0.5]]), torch.tensor([0]))
    torch.testing.assert_close(three, torch.tensor([-2 / 2.5]))
    equal = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])
    last, first = torch.tensor([4]), torch.tensor([0])
    for value in (objectives.dlr(equal, last), objectives.targeted_dlr(equal, last, first)):
        assert value > 1e9  # the label is behind, by all of a spread of nothing
    assert objectives.dlr(equal, first) == objectives.targeted_dlr(equal, first, first) == 0


def test_the_best_iterate_is_kept_image_by_image() -> None:
    x = torch.full((2, 1, 1, 1), 0.5)

    def value(moved: Tensor) -> Tensor:
        """Highest at 0.52, which steps of 0.05 overshoot."""
        return -(moved.flatten() - 0.52).abs()

    last = pgd.ascend(value, x, pgd.Linf(0.3), steps=4, step_size=0.03)
    best = pgd.ascend(value, x, pgd.Linf(0.3), steps=4, step_size=0.03, keep_best=True)
    assert (value(best) > value(last) - 1e-7).all()
    torch.testing.assert_close(best, torch.full_like(best, 0.53))
    torch.testing.assert_close(last, x)


def test_no_radius_no_change() -> None:
    x, y, model = images(), torch.zeros(6, dtype=torch.long), Linear()
    moved = pgd.ascend(
        objectives.objective("ce", model, x, y), x, pgd.Linf(0.0), steps=3, step_size=0.1
    )
    assert torch.equal(moved, x)


def test_an_unknown_objective_names_the_nearest() -> None:
    with pytest.raises(UsageProblem, match="unknown objective `jiont`") as caught:
        objectives.objective("jiont", Linear(), images(), torch.zeros(6, dtype=torch.long))
    assert "did you mean `joint`" in (caught.value.hint or "")


def test_a_radius_of_8_under_linf_asks_for_a_fraction() -> None:
    with pytest.raises(UsageProblem, match="eps 8 under linf") as caught:
        Threat("linf", 8)
    assert caught.value.hint == "did you mean 8/255?"
    assert str(Threat("l2", 8)) == "l2 8"
    assert str(Threat("linf", 8 / 255)) == "linf 8/255"


def test_the_l1_ball_written_out() -> None:
    """Laplace's numbers for a start; the hundredth of the pixels that gains most for a step."""
    x, ball = torch.full((50, 3, 20, 20), 0.5), pgd.L1(3.0)
    rng = BatchRng(0)
    uniform, radius = 2 * rng.uniform(x) - 1, 3.0 * rng.uniform(x[:, :1, :1, :1])
    laplace = -uniform.sign() * torch.log1p(-uniform.abs())
    expected = x + radius * laplace / laplace.abs().sum((1, 2, 3), keepdim=True)
    torch.testing.assert_close(ball.start(x, BatchRng(0)), expected)
    normal = BatchRng(0).normal(x)
    torch.testing.assert_close(ball.on_sphere(x, BatchRng(0)), ball.project(x + normal, x))
    torch.testing.assert_close(
        ball.distance(ball.on_sphere(x, BatchRng(1)), x), x.new_full((50,), 3)
    )
    step = ball.step(normal, 0.3)
    for moved, gradient in zip(step.flatten(1), normal.flatten(1), strict=True):
        most = gradient.abs().topk(12).indices  # of 1,200 pixels
        written = torch.zeros(1200)
        written[most] = 0.3 * gradient[most].sign() / 12
        torch.testing.assert_close(moved, written)
    one = ball.step(torch.tensor([[[[0.1, -0.7], [0.2, 0.0]]]]), 0.3)
    torch.testing.assert_close(one, torch.tensor([[[[0.0, -0.3], [0.0, 0.0]]]]))
    assert not ball.step(torch.zeros(1, 1, 2, 2), 0.3).any()


def test_starts_of_the_l1_ball_near_the_edge_of_the_range() -> None:
    x = torch.zeros(20, 1, 3, 3)
    for points in (pgd.L1(2.0).start(x, BatchRng(0)), pgd.L1(2.0).on_sphere(x, BatchRng(0))):
        assert points.min() == 0
        assert points.max() > 0.1


def test_sparse_steps_leave_pixels_at_the_edge_of_the_range() -> None:
    """A linear value is highest where the pixels that gain most take all of their room in turn."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 1, 8, 8, generator=generator)
    weights = torch.randn(1, 1, 8, 8, generator=generator)
    found = pgd.ascend(
        lambda moved: (weights * moved).flatten(1).sum(1),
        x,
        pgd.L1(3.0),
        steps=40,
        step_size=0.2,
        keep_best=True,
    )
    for image, moved in zip(x, found, strict=True):
        room = torch.where(weights[0] > 0, 1 - image, image).flatten()
        left, highest = 3.0, 0.0
        for pixel in weights.flatten().abs().argsort(descending=True).tolist():
            taken = min(left, room[pixel].item())
            left, highest = left - taken, highest + taken * weights.flatten()[pixel].abs().item()
        assert (weights[0] * (moved - image)).sum().item() == pytest.approx(highest, rel=0.02)
