"""MIND, Vendi score, AuthPct, density and coverage: closed forms, known sets and intervals."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.cli import done, one
from helpers.runs import Listener, save_run
from torch import Tensor

from jeatcli.checkpoints.model import Model
from jeatcli.scoring.density import density_coverage
from jeatcli.scoring.features import Features
from jeatcli.scoring.image_scores import image_scores
from jeatcli.scoring.intervals import Estimate, bootstrapped, group_of, jackknifed
from jeatcli.scoring.mind import mind
from jeatcli.scoring.neighbours import authpct
from jeatcli.scoring.settings import METRICS
from jeatcli.scoring.vendi import vendi


def features(values: Tensor) -> Features:
    return Features(values, torch.zeros(len(values), 3))


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


REAL = normal(200, 6)
# Half of the images near one place, half near another: two classes.
CLASSES = torch.cat([normal(150, 6, 1) - 8, normal(150, 6, 2) + 8])
SETS = {
    "training images": CLASSES,
    "noise": 100 * normal(300, 6, 3),
    "one class": normal(300, 6, 4) - 8,
    "copies of one": CLASSES[:1].repeat(300, 1),
}


def of(name: str) -> dict[str, float]:
    """Return all scores of a set against the two classes."""
    ours, theirs = features(SETS[name]), features(CLASSES)
    found: dict[str, float] = {}
    for metric in (mind, vendi, authpct, density_coverage):
        found |= metric(ours, theirs)
    return found


def test_known_sets() -> None:
    same = of("training images")
    for name, value in {"mind": 0, "coverage": 1, "density": 1, "authpct": 0}.items():
        assert same[name] == pytest.approx(value), name
    assert same["vendi"] == pytest.approx(same["vendi_reference"])
    noise = of("noise")
    assert noise["mind"] > 1000
    assert noise["coverage"] < 0.05
    assert noise["density"] < 0.05
    assert noise["authpct"] > 95
    half = of("one class")
    assert half["coverage"] == pytest.approx(0.5, abs=0.06)
    assert half["vendi"] < half["vendi_reference"]
    assert 0 < half["mind"] < noise["mind"]
    # All near real images, none of them one, and a class of as many again is missing.
    assert half["density"] == pytest.approx(1, abs=0.2)
    assert half["authpct"] > 30
    copies = of("copies of one")
    assert copies["vendi"] == pytest.approx(1)
    assert copies["authpct"] == 0
    assert copies["coverage"] < 0.05
    assert copies["mind"] > half["mind"] / 2


def test_mind_is_its_formula() -> None:
    """As in torch-fidelity: float32 directions and the subsample of one generator."""
    ours, theirs = normal(70, 6, 5) + 0.3, REAL
    generator = torch.Generator().manual_seed(2020)
    kept = theirs[torch.randperm(200, generator=generator)[:70]]
    directions = torch.randn(1000, 6, generator=generator).numpy().astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    apart = [
        np.mean((np.sort(ours.numpy() @ u) - np.sort(kept.numpy() @ u)) ** 2) for u in directions
    ]
    found = mind(features(ours), features(theirs))["mind"]
    assert found == pytest.approx(3 * 6 * np.mean(apart), rel=1e-5)


def test_mind_of_a_shift_has_a_closed_form() -> None:
    """The mean of (u, shift)^2 over directions is |shift|^2 / d."""
    found = mind(features(REAL + 0.5), features(REAL))["mind"]
    assert found == pytest.approx(3 * 6 * 0.25, rel=0.1)
    assert mind(features(REAL), features(REAL + 0.5))["mind"] == found


def test_vendi_is_the_entropy_of_the_kernel() -> None:
    values = normal(40, 90)
    rows = values.numpy() / np.linalg.norm(values.numpy(), axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(rows @ rows.T / 40)
    shares = shares[shares > 1e-15]
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert vendi(features(values), features(values))["vendi"] == pytest.approx(expected)
    # So many different images, each as often as the others.
    distinct = torch.eye(5).repeat_interleave(8, 0)
    assert vendi(features(distinct), features(distinct))["vendi"] == pytest.approx(5)


def test_authpct_by_a_loop() -> None:
    ours = torch.cat([normal(30, 6, 6), REAL[:10] + 1e-3, REAL[10:15]])
    between = np.linalg.norm(REAL.numpy()[:, None] - REAL.numpy()[None], axis=2)
    np.fill_diagonal(between, np.inf)
    authentic = []
    for image in ours.numpy():
        away = np.linalg.norm(REAL.numpy() - image, axis=1)
        authentic.append(away.min() > between[away.argmin()].min())
    found = authpct(features(ours), features(REAL))["authpct"]
    assert found == pytest.approx(100 * np.mean(authentic))
    assert found < 100 * 31 / 45
    # A copy of an image that the reference holds twice is as near as these are to each other.
    twice = features(REAL.repeat(2, 1))
    assert authpct(twice, twice)["authpct"] == 0


def test_intervals_hold_what_they_are_for() -> None:
    share = bootstrapped(torch.tensor([1.0] * 30 + [0.0] * 70))
    assert isinstance(share, Estimate)
    assert share == pytest.approx(0.3)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert (share.low, share.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.02)
    values = normal(400, 1).flatten()
    share, half = bootstrapped(values), 1.96 * values.std().item() / 20
    ends = (share - half, share + half)
    assert (share.low, share.high) == pytest.approx(ends, abs=0.1 * half)
    # Of a mean the jackknife's deviation is that of the mean of the groups.
    groups = normal(10, 1).flatten()
    without = [(groups.sum() - each).item() / 9 for each in groups]
    found = jackknifed(groups.mean().item(), without)
    assert found.high - found == pytest.approx(1.96 * (groups.std() / 10**0.5).item())
    # MIND of other images of the same kind falls into it, nineteen times of twenty.
    exact = mind(features(normal(4000, 6, 7) + 0.5), features(normal(4000, 6, 8)))["mind"]
    hits = 0
    for seed in range(20):
        one = mind(features(normal(400, 6, 20 + seed) + 0.5), features(normal(400, 6, 60 + seed)))
        hits += one["mind"].low <= exact <= one["mind"].high
    assert hits >= 16


@pytest.mark.parametrize(("score", "name"), [(mind, "mind"), (vendi, "vendi")])
def test_intervals_are_the_jackknife_of_ten_groups(
    score: Callable[[Features, Features], dict[str, Estimate]], name: str
) -> None:
    """Each left out in turn: of n groups the variance is (n - 1) / n times the sum of squares."""
    ours, theirs, group = normal(83, 6, 9) + 0.5, normal(83, 6, 10), group_of(83)
    assert sorted(group.bincount().tolist()) == [8] * 7 + [9] * 3
    # At random, for images may be in the order of their classes.
    assert not torch.equal(group, torch.arange(83) % 10)
    kept = [group != k for k in range(10)]
    without = np.array([score(features(ours[k]), features(theirs[k]))[name] for k in kept])
    spread = 1.96 * math.sqrt(0.9 * np.square(without - without.mean()).sum())
    found = score(features(ours), features(theirs))[name]
    assert (found.low, found.high) == pytest.approx((found - spread, found + spread), rel=1e-6)


def test_a_number_with_its_interval_goes_from_one_process_to_another() -> None:
    sent = Estimate(2.0, 1.0, 4.0)
    for again in (pickle.loads(pickle.dumps(sent)), copy.deepcopy(sent)):
        assert (again, again.low, again.high) == (2, 1, 4)


def test_the_command_prints_interval_and_need(judge: Model, artist: Model) -> None:
    names = list(METRICS)
    listener = Listener()
    found = image_scores(
        artist, features=judge, num=20, steps=1, metric=tuple(names), reporter=listener
    )
    assert set(found.metrics) == set(found.intervals)
    for name, value in found.metrics.items():
        low, high = found.intervals[name]
        assert low <= value <= high
        assert "few: 20 images, and `" in found.notes[name]
    assert "`mind` is meant for 5,000 or more" in " ".join(listener.said)
    assert "`mind` is meant for 5,000 or more" in found.protocol["comparable"]


def test_json_has_numbers_alone() -> None:
    save_run("artist", seed=1)
    save_run("judge")
    ask = ("score", "artist", "--features", "judge", "-n", 20, "--steps", 1, "--metric", "vendi")
    found = one(*ask)
    low, high = found["intervals"]["vendi"]
    assert low <= found["metrics"]["vendi"] <= high
    assert json.dumps(found["metrics"]["vendi"]) == repr(found["metrics"]["vendi"])
    shown = done(*ask)
    assert any(line.startswith("vendi ") and " to " in line for line in shown.splitlines())
