"""Single-step adversarial training: the variants of `fast`, against their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.family import X, Y, agree, attacked, made, network, step

from jeatcli.core.rng import BatchRng, mix
from jeatcli.errors import UsageProblem
from jeatcli.methods.fast import Fast


def test_n_fgsm_starts_beyond_the_ball_and_is_never_projected() -> None:
    noise = 0.2 * (2 * BatchRng(3).uniform(X) - 1)
    known = step(network(), (X + noise).clamp(0, 1), 0.1).clamp(0, 1)
    found = attacked("fast", eps=0.1)
    torch.testing.assert_close(found, known)
    assert (found - X).abs().max() > 0.25


def test_fgsm_rs_is_one_step_within_the_ball() -> None:
    known = attacked("at", eps=0.1, attack_steps=1)
    assert torch.equal(attacked("fast", eps=0.1, variant="rs"), known)
    assert (known - X).abs().max() <= 0.1 + 1e-6


def test_fgsm_pgi_starts_where_the_last_batch_ended() -> None:
    method, model, other = (
        made("fast", eps=0.1, variant="pgi", smoothness=2.0),
        network(),
        network(),
    )
    loss, _ = method.loss(model, X, Y, BatchRng(3))
    prior = method.state()["prior"].clone()
    torch.testing.assert_close(prior.abs().amax((1, 2, 3)), torch.full((24,), 0.1))
    loss, _ = method.loss(model, X, Y, BatchRng(4))
    start = (X + prior).clamp(0, 1)
    moved = step(other, start, 0.1).clamp(X - 0.1, X + 0.1).clamp(0, 1)
    torch.testing.assert_close(method.state()["prior"], moved - X)
    apart = (other(moved) - other(start)).square().mean()
    agree(loss, model, F.cross_entropy(other(moved), Y) + 2 * apart, other)


def test_the_prior_of_fgsm_pgi_begins_on_the_sphere_and_is_kept() -> None:
    method = made("fast", eps=0.1, variant="pgi")
    assert isinstance(method, Fast)
    grey = torch.full_like(X, 0.5)
    expected = method.ball.on_sphere(grey, BatchRng(mix(0, 1))) - grey
    torch.testing.assert_close(method.prior, expected, rtol=0, atol=1e-6)
    black_and_white = X.round()
    start = method.start(black_and_white, BatchRng(3))
    assert torch.equal(start, (black_and_white + method.prior).clamp(0, 1))
    method.loss(network(), X, Y, BatchRng(3))
    resumed = made("fast", eps=0.1, variant="pgi")
    assert isinstance(resumed, Fast)
    resumed.load_state({name: tensor.clone() for name, tensor in method.state().items()})
    assert torch.equal(resumed.prior, method.prior)
    assert not torch.equal(resumed.prior, expected)
    assert made("fast", eps=0.1, variant="n").state() == {}


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "pgi", "smoothness": 3.0, "attack_steps": 2},
        {"variant": "rs", "attack_start": "clean", "attack_steps": 2},
        {"variant": "n", "smoothness": 0.0},
        {"variant": "rs", "smoothness": 10.0},
    ],
)
def test_what_a_variant_of_fast_takes(options: dict[str, Any]) -> None:
    made("fast", **options)


@pytest.mark.parametrize(
    "options",
    [{"variant": "pgi", "attack_start": "near"}, {"variant": "rs", "smoothness": 3.0}],
)
def test_what_a_variant_of_fast_would_pass_over(options: dict[str, Any]) -> None:
    with pytest.raises(UsageProblem, match=options["variant"]):
        made("fast", **options)


def test_fast_without_a_prior_draws_its_start_once() -> None:
    method, model = made("fast", eps=0.1, variant="n"), network()
    assert isinstance(method, Fast)
    known = F.cross_entropy(model(method.attack(model, X, Y, BatchRng(3))), Y)
    torch.testing.assert_close(method.loss(model, X, Y, BatchRng(3))[0], known)
