"""Sharpness against closed forms: of a linear network, and of the normal law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.runs import load_run

from jeatcli import wrap
from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.landscapes.sharpness import SharpnessResult


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_sharpness_of_a_linear_network_has_a_closed_form(norm: str) -> None:
    """E(x, y) = -w x: along a direction d of length r it rises by -w d, and nothing curves."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    model = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
    x, y = 0.3 + 0.4 * torch.rand(12, 1, 8, 8), torch.arange(12) % 3
    found = energy_landscape(
        model,
        kind="sharpness",
        images=x,
        labels=y,
        radius=(0.5, 2.0),
        directions=400,
        unit=0.02,
        norm=norm,
        eps=0.1,
    ).result
    assert isinstance(found, SharpnessResult)
    weights = net[1].weight.detach()[y].double()
    lengths, values = weights.norm(dim=1), {name: row[0] for name, row in found.values.items()}
    dual = weights.abs().sum(1) if norm == "linf" else lengths
    np.testing.assert_allclose(values["worst"], 0.1 * dual, rtol=1e-4 if norm == "linf" else 0.03)
    np.testing.assert_allclose(values["gradient"], lengths, rtol=1e-4)
    np.testing.assert_allclose(values["marginal"], -net(x).logsumexp(1).detach(), rtol=1e-4)
    assert np.abs(values["curvature"]).max() < 1e-4
    # Of a random direction of per-pixel RMS u the rise has mean 0 and deviation u |w|.
    np.testing.assert_allclose(values["variance"], (0.02 * lengths) ** 2, rtol=0.3)
    known = float((0.02 * lengths).square().mean())
    assert values["variance"].mean() == pytest.approx(known, rel=0.08)
    assert (np.abs(found.rises[0, 1]) < 4 * 0.02 * lengths.numpy() / 20).all()
    for place, radius in enumerate(found.settings.radius):
        expected = radius * found.rises[0, 1]
        np.testing.assert_allclose(found.rises[0, place], expected, rtol=1e-2, atol=1e-5)


def test_interval_is_that_of_the_normal_law() -> None:
    found = energy_landscape([load_run("one")], kind="sharpness", num=2, directions=2).result
    assert isinstance(found, SharpnessResult)
    values = np.random.default_rng(2).normal(size=400)
    interval = found.interval(values)
    half = 1.96 * values.std() / 20
    known = (values.mean() - half, values.mean() + half)
    assert (interval.low, interval.high) == pytest.approx(known, abs=0.1 * half)


def test_interval_covers_the_mean_of_a_normal_sample_as_often_as_it_says() -> None:
    found = energy_landscape([load_run("one")], kind="sharpness", num=2, directions=2).result
    assert isinstance(found, SharpnessResult)
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        interval = found.interval(generator.normal(size=100))
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99
