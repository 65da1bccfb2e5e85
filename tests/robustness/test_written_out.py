"""APGD under l1 and FMN, point by point beside the published algorithms written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.linear_model import SHAPE, Linear, batch, linear
from torch import Tensor

from jeatcli.core.models.classifier import Classifier
from jeatcli.core.pgd import L1, L2, Linf
from jeatcli.core.threat import Threat
from jeatcli.robustness.attacks import apgd, fmn
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.restarts import Broken
from jeatcli.robustness.attacks.surrogate import Surrogate


class Watched(Surrogate):
    """Keeps the points that it is asked for."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.points: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.points.append(x.detach().clone())
        self.last_has_gradient = x.requires_grad
        return super().__call__(x)


def at_the_border(n: int) -> Tensor:
    """Return images of which many pixels are black or white."""
    x = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(3)) + 0.5
    return x.clamp(0, 1)


class Curved(Linear):
    """Its slope depends on the point, and it never errs."""

    def head(self, features: Tensor) -> Tensor:
        logits = super().head(torch.sin(3 * features))
        return logits + torch.tensor([100.0, 0, 0, 0, 0])


def sparse_ascent(model: Classifier, x: Tensor, start: Tensor, eps: float, steps: int) -> list[Any]:
    """Return the points of one image (Croce and Hein 2021, Algorithm 1 and its appendix)."""
    points, left = [], steps

    def loss(at: Tensor) -> tuple[float, Tensor]:
        at = at.detach().requires_grad_(True)
        points.append(at.detach())
        logits = model(at)
        value = logits.logsumexp(1) - logits[:, 0]
        return value.item(), torch.autograd.grad(value.sum(), at)[0]

    for factor, share in ((3, 0.3), (2, 0.3), (1, 0.4)):
        count = left if factor == 1 else min(math.ceil(share * steps), left - 1)
        left -= count
        ball = L1(factor * eps)
        moved = ball.project(start, x).clamp(0, 1)
        value, gradient = loss(moved)
        best, best_gradient, highest = moved, gradient, value
        size, pixels = ball.eps, int((moved != x).sum())
        for step in range(1, count + 1):
            chosen = max(math.ceil(pixels / 1.5), 1)
            least = gradient.abs().flatten().sort(descending=True).values[chosen - 1]
            signs = gradient.sign() * (gradient.abs() >= least)
            moved = ball.project(moved + size * signs / max(signs.abs().sum().item(), 1), x)
            moved = moved.clamp(0, 1)
            value, gradient = loss(moved)
            if value > highest:
                best, best_gradient, highest = moved, gradient, value
            if step % max(int(0.04 * count), 1) == 0:
                now = int((best != x).sum())
                if now < 0.95 * pixels:
                    size, moved, gradient = ball.eps, best, best_gradient
                else:
                    size = max(size / 1.5, 0.1 * ball.eps)
                pixels = now
        start = best
    return points


@pytest.mark.parametrize(("eps", "steps"), [(0.6, 12), (1.5, 260), (0.05, 30)])
def test_apgd_under_l1_written_out(eps: float, steps: int) -> None:
    model, x = Classifier(Curved(), (0.0,), (1.0,)), at_the_border(1)
    start = (x + torch.randn(x.shape, generator=torch.Generator().manual_seed(4))).clamp(0, 1)
    images = Batch(x, torch.zeros(1).long(), None, torch.arange(1))
    search = Watched(model)
    ascent = apgd._ascent(search, apgd.cross_entropy, AttackOptions(Threat("l1", eps)), steps)
    ascent.run(images, torch.arange(1), start, Broken(images))
    expected = sparse_ascent(model, x, start, eps, steps)
    assert len(search.points) == len(expected) == steps + 3
    for ours, theirs in zip(search.points, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    assert search.backward == steps + 2
    assert not search.last_has_gradient


def test_what_breaks_in_the_ball_leaves_apgd_under_l1() -> None:
    model = linear(gain=3.0)
    images = batch(model, 12)
    sizes, gone = [], []

    class Counted(Surrogate):
        def __call__(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            gone.append(0)
            return super().__call__(x)

        def broken(self, batch: Batch, moved: Tensor, logits: Tensor) -> Tensor:
            found = super().broken(batch, moved, logits)
            assert torch.equal(found, batch.broken(model(moved)))
            gone[-1] = int(found.sum())
            return found

    moved = make_attack("apgd-ce", steps=20)(
        Counted(model), images, AttackOptions(Threat("l1", 0.6))
    )
    assert sizes[0] == 12 > sizes[-1]
    assert sizes[1:] == [size - left for size, left in zip(sizes, gone, strict=True)][:-1]
    broken = images.broken(model(moved))
    assert broken.sum() == sum(gone)
    assert torch.equal(moved[~broken], images.x[~broken])


def test_the_best_point_under_l1_is_tried_on_the_judge() -> None:
    model, judge = linear(), Classifier(Linear(gain=-1.0), (0.0,), (1.0,))
    images = batch(model, 3)
    broken = Broken(images)
    plan = AttackOptions(Threat("l1", 1e-5))
    ascent = apgd._ascent(Surrogate(model, victim=judge), apgd.cross_entropy, plan, 3)
    ascent.run(images, images.index, images.x, broken)
    assert broken.mask.all()
    torch.testing.assert_close(broken.images, images.x, rtol=0, atol=2e-5)
    assert not torch.equal(broken.images, images.x)


def nearest(model: Classifier, x: Tensor, y: int, norm: str, steps: int) -> list[Tensor]:
    """Return FMN's points of one image (Pintor et al. 2021, Algorithm 1)."""
    ball: Any = Linf if norm == "linf" else L2
    points, moved, best = [], x, math.inf
    widest = radius = ball(0.0).distance((x < 0.5).float(), x).item()
    for step in range(steps):
        share = (1 + math.cos(math.pi * step / steps)) / 2
        change, length = 0.001 + 0.049 * share, 0.01 + 0.99 * share
        points.append(moved)
        at = moved.detach().requires_grad_(True)
        logits = model(at)[0]
        lead = torch.cat([logits[:y], logits[y + 1 :]]).max() - logits[y]
        (gradient,) = torch.autograd.grad(lead, at)
        away = ball(0.0).distance(moved, x).item()
        best = min(best, away) if lead > 0 else best
        dual = gradient.abs().sum() if norm == "linf" else gradient.norm()
        if lead > 0:
            radius = min(radius * (1 - change), best)
        else:
            predicted = max(away + (lead.abs() / dual).item(), away * 1.001)
            radius = radius * (1 + change) if math.isfinite(best) else predicted
        radius = min(radius, widest)
        moved = ball(radius).project(moved + length * gradient / gradient.norm(), x).clamp(0, 1)
    return points


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fmn_written_out(norm: str) -> None:
    model, x = linear(), at_the_border(4)
    y = model(x).argmax(1)
    for k in range(4):
        images = Batch(x[k : k + 1], y[k : k + 1], None, torch.arange(1))
        search = Watched(model)
        make_attack("fmn", steps=30)(search, images, AttackOptions(Threat(norm, 1.0)))
        expected = nearest(model, images.x, int(y[k]), norm, 30)
        for ours, theirs in zip(search.points, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_fmn_on_a_coarse_network_keeps_what_the_exact_one_confirms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = linear(gain=3.0)
    images = batch(model, 6)
    search = Surrogate(model, torch.bfloat16)

    def exact(part: Batch, moved: Tensor) -> Tensor:
        assert len(moved) == len(part)
        return part.index % 2 == 0

    monkeypatch.setattr(search, "breaks_exact_model", exact)
    moved = fmn.fmn(search, images, AttackOptions(Threat("linf", 1.0)), steps=30)
    changed = (moved != images.x).flatten(1).any(1)
    assert changed.tolist() == [True, False] * 3
