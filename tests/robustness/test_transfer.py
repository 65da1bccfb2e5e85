"""Attacks that see one network, judged by another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.linear_model import Linear, batch, distances, linear
from torch import Tensor, nn

from jeatcli.core import objectives, pgd
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.threat import Threat
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.surrogate import Surrogate


def test_restarts_on_another_network_go_on_until_the_judged_one_is_broken() -> None:
    """PGD on the source, by hand: an image is broken if any of the restarts breaks the judge."""
    source, judge = linear(), Classifier(Linear(gain=-1.0), (0.0,), (1.0,))
    images = batch(source, 60)
    images = Batch(images.x, judge(images.x).argmax(1), None, images.index)
    plan = AttackOptions(Threat("linf", 0.25), steps=1, step_size=0.02, restarts=6)
    value = objectives.objective("ce", source, images.x, images.y)
    ball = pgd.ball(plan.threat)
    any_breaks, each = torch.zeros(60, dtype=torch.bool), []
    for restart in range(6):
        start = ball.start(images.x, images.rng(0, restart))
        moved = pgd.ascend(value, images.x, ball, steps=1, step_size=0.02, start=start)
        each.append(images.broken(judge(moved)))
        any_breaks |= each[-1]
    moved = make_attack("pgd", plan)(Surrogate(source, victim=judge), images, plan)
    assert torch.equal(images.broken(judge(moved)), any_breaks)
    assert any_breaks.sum() > max(broken.sum() for broken in each)


def two_alike() -> tuple[Classifier, Classifier, Batch]:
    """Return a classifier, another with nearly its weights, and images."""
    source, judge = linear(), linear()
    assert isinstance(judge.net.weight, nn.Parameter)
    noise = torch.randn(judge.net.weight.shape, generator=torch.Generator().manual_seed(4))
    judge.net.weight.add_(0.5 * noise)
    return source, judge, batch(source, 200)


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "square"])
def test_what_breaks_the_judge_alone_is_found_on_another_network(name: str) -> None:
    """Where the source holds, its best point is tried; where it falls, the next start is."""
    source, judge, images = two_alike()
    near = distances(source, images, "linf")
    right = judge(images.x).argmax(1) == images.y
    images = images.take((right & (near > near.median())).nonzero().squeeze(1))
    # The source holds everywhere.
    plan = AttackOptions(Threat("linf", 0.99 * near.median().item()))
    moved = make_attack(name)(Surrogate(source, victim=judge), images, plan)
    assert not images.broken(source(moved)).any()
    assert images.broken(judge(moved)).any()
    wide = Threat("linf", 2 * plan.threat.eps)

    def found(restarts: int) -> Tensor:
        few: dict[str, Any] = {"queries": 60} if name == "square" else {"steps": 10}
        more = AttackOptions(wide, restarts=restarts, **few)
        moved = make_attack(name, more)(Surrogate(source, victim=judge), images, more)
        return images.broken(judge(moved))

    once, often = found(1), found(4)
    assert not (once & ~often).any()
    # Toward four targets one start finds them all.
    assert often.sum() > once.sum() or name == "apgd-t"


def test_an_image_that_broke_the_source_alone_gets_its_other_starts() -> None:
    source, judge, images = two_alike()
    near = distances(source, images, "linf")
    right = judge(images.x).argmax(1) == images.y
    images = images.take((right & (near < near.quantile(0.3))).nonzero().squeeze(1))

    def found(restarts: int) -> Tensor:
        radius = Threat("linf", 2 * near.quantile(0.3).item())
        plan = AttackOptions(radius, steps=10, restarts=restarts)
        moved = make_attack("apgd-ce", plan)(Surrogate(source, victim=judge), images, plan)
        # The source alone would leave nothing to the second start.
        assert restarts > 1 or images.broken(source(moved)).all()
        return images.broken(judge(moved))

    assert found(4).sum() > found(1).sum() > 0
