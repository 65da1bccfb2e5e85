"""Scores at their edges: large means, logits and slopes that are no numbers, exact thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import Listener
from torch import Tensor, nn

from jeatcli import wrap
from jeatcli.errors import JeatError
from jeatcli.scoring import fidelity
from jeatcli.scoring.classifier_scores import classifier_scores
from jeatcli.scoring.features import Features, extract
from jeatcli.scoring.fidelity import Numbers
from jeatcli.scoring.image_scores import _metrics, image_scores
from jeatcli.scoring.settings import METRICS

SHAPE = (1, 8, 8)


def uniform(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_means_of_features_that_are_large_are_taken_in_float64() -> None:
    """Of float32 features of mean 1000 the library's own means are off by more than the sets."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, 3))
    net[1].bias.data.fill_(1000)
    judge = wrap(net, classes=3, shape=SHAPE, mean=0, std=1)
    bytes_of = [(255 * uniform(3000, seed)).byte() for seed in (0, 1)]
    one, two = (extract(images, judge, 256) for images in bytes_of)
    found = fidelity.compute(one, two, Numbers.of(one, two, 1, 2, 100))["fid"]
    first, second = (each.values.double().numpy() for each in (one, two))
    a, b = (np.cov(rows, rowvar=False) for rows in (first, second))
    roots = np.sqrt(np.linalg.eigvals(a @ b).real).sum()
    away = first.mean(0) - second.mean(0)
    assert found == pytest.approx(away @ away + np.trace(a) + np.trace(b) - 2 * roots, rel=1e-6)


class Rooted(nn.Module):
    """Of a black image the logits are infinite, or their slopes alone are no numbers."""

    def __init__(self, slope: bool) -> None:
        super().__init__()
        self.linear, self.slope = nn.Linear(64, 3), slope

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        size = flat.square().sum(1, keepdim=True)
        return self.linear(flat) + (size.sqrt() if self.slope else size.log())


@pytest.mark.parametrize("slope", [False, True])
def test_what_is_no_number_has_no_rank(slope: bool, tmp_path: Path) -> None:
    model = wrap(Rooted(slope), classes=3, shape=SHAPE, mean=0, std=1)
    np.savez(tmp_path / "other.npz", arr_0=np.full((25, 8, 8, 1), 90, np.uint8))
    images = uniform(30)
    ask = {"labels": [0] * 30, "ood": [str(tmp_path / "other.npz")]}
    classifier_scores(model, images=images, **ask)
    images[[3, 7]] = 0
    with pytest.raises(JeatError, match="not finite for 2 of 30 images"):
        classifier_scores(model, images=images, **ask)


def test_images_are_told_apart_by_more_than_rounding() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 3))
    judge = wrap(net, classes=3, shape=SHAPE, mean=0, std=1)
    layer = judge.classifier.net.module[1]
    real, drawn = uniform(40), uniform(20, 1)
    # All features of the first one are the largest.
    layer.weight.abs_()
    layer.bias.zero_()
    real[0] = 1
    assert image_scores(drawn, real=real, features=judge).fid > 0
    # Float32 tells 1000.0001 from 1000, and a score of what differs by that is one of rounding.
    layer.bias.fill_(1000)
    layer.weight.mul_(1e-5)
    with pytest.raises(JeatError, match="the same features"):
        image_scores(drawn, real=real, features=judge)


@pytest.mark.parametrize("less", [0, 1])
def test_as_many_images_as_a_score_needs_are_enough(less: int) -> None:
    needed = METRICS["authpct"].needs
    many, few = (
        Features(uniform(n).flatten(1)[:, :2], torch.zeros(n, 3)) for n in (needed, needed - less)
    )
    for pair in ((many, few), (few, many)):
        listener, notes = Listener(), {}
        _metrics(("authpct",), *pair, notes, listener)
        assert ("authpct" in notes) == bool(less) == bool(listener.said)
