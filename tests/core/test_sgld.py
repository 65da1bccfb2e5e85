"""The chain against its known law, and the buffer's rates."""

from __future__ import annotations

import pytest
import torch

from jeatcli.core.rng import BatchRng
from jeatcli.core.sgld import Chain, langevin, replayed, trained_chain


def test_the_variance_on_a_quadratic_energy_is_the_known_one() -> None:
    """x' = x - a k (x - c) + s N has the stationary variance s^2 / (1 - (1 - a k)^2)."""
    stiffness, step, noise, centre = 4.0, 0.1, 0.02, 0.5
    x = torch.full((500, 1, 8, 8), centre)
    end = langevin(
        lambda x: stiffness / 2 * (x - centre).square().flatten(1).sum(1),
        x,
        Chain(60, step, noise),
        BatchRng(0),
    )
    known = noise**2 / (1 - (1 - step * stiffness) ** 2)
    assert end.mean().item() == pytest.approx(centre, abs=1e-3)
    assert end.var().item() == pytest.approx(known, rel=0.02)


def test_without_noise_the_chain_is_gradient_descent_and_stays_in_range() -> None:
    x = torch.rand(4, 1, 2, 2)
    end = langevin(
        lambda x: 0.5 * (x - 2).square().flatten(1).sum(1),
        x,
        Chain(3, 0.1, 0),
        BatchRng(0),
    )
    torch.testing.assert_close(end, (2 - (2 - x) * 0.9**3).clamp(0, 1))
    down = langevin(lambda x: 9 * x.flatten(1).sum(1), x, Chain(1, 1.0, 0.0), BatchRng(0))
    assert torch.equal(down, torch.zeros_like(x))


def test_a_clipped_gradient_moves_by_the_step_at_most() -> None:
    x = torch.full((2, 1, 2, 2), 0.5)
    end = langevin(
        lambda x: 1e6 * x.flatten(1).sum(1),
        x,
        Chain(1, 0.01, 0, clip=1.0),
        BatchRng(0),
    )
    torch.testing.assert_close(end, torch.full_like(end, 0.49))


def test_momentum_adds_a_share_of_the_last_gradient() -> None:
    x = torch.full((2, 1, 2, 2), 0.5)
    gradients = iter([1.0, 2.0, -7.0])
    chain = Chain(3, 0.1, 0.0, clip=1.5, momentum=0.5)
    end = langevin(lambda x: next(gradients) * x.flatten(1).sum(1), x, chain, BatchRng(0))
    # Clipped 1, 1.5 and -1.5; with momentum 1, 2 and -0.5.
    torch.testing.assert_close(end, torch.full_like(end, 0.5 - 0.1 * (1 + 2 - 0.5)))


def test_the_hook_sees_every_step_of_the_chain_and_may_stop_it() -> None:
    x = torch.full((2, 1, 1, 1), 0.5)
    seen: list[tuple[int, float, float, float]] = []

    def hook(
        step: int, x: torch.Tensor, moved: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor | None:
        assert not values.requires_grad
        seen.append((step, x[0].item(), moved[0].item(), values[0].item()))
        return None if step == 2 else moved + 0.1

    end = langevin(lambda x: 2 * x.flatten(), x, Chain(9, 0.01, 0.0), BatchRng(0), hook)
    steps = [(0, 0.5, 0.48, 1.0), (1, 0.58, 0.56, 1.16), (2, 0.66, 0.64, 1.32)]
    for one, other in zip(seen, steps, strict=True):
        assert one == pytest.approx(other)
    assert end.flatten().tolist() == pytest.approx([0.66, 0.66])


def test_no_step_no_change() -> None:
    x = torch.rand(2, 1, 2, 2)
    assert torch.equal(langevin(lambda x: x.flatten(1).sum(1), x, Chain(0, 1, 1), BatchRng(0)), x)


def test_the_buffer_draws_and_starts_anew_at_the_given_rate() -> None:
    fresh = torch.ones(20_000, 2, 2, 2)
    start, places = replayed(torch.zeros(40_000, 2, 2, 2), fresh, 0.05, BatchRng(0))
    assert start.flatten(1)[:, 0].mean().item() == pytest.approx(0.05, abs=0.005)
    assert torch.equal(start, start[:, :1, :1, :1].expand_as(start))  # whole images
    assert places.float().mean().item() == pytest.approx(20_000, rel=0.02)
    assert len(places.unique()) == len(places)


@pytest.mark.parametrize(("reinit", "anew"), [(0.0, False), (0.5, False), (0.6, True)])
def test_a_chain_starts_anew_below_the_rate(reinit: float, anew: bool) -> None:
    """A draw of [0, 1) is below it with that probability, and never below 0."""

    class Drawn(BatchRng):
        def uniform(self, like: torch.Tensor) -> torch.Tensor:
            return torch.full_like(like, min(reinit, 0.5))

    fresh = torch.ones(2, 1, 2, 2)
    start, _ = replayed(0 * fresh, fresh, reinit, Drawn(0))
    assert torch.equal(start, fresh if anew else 0 * fresh)


def test_the_chain_of_a_method_that_has_none_is_that_of_jem() -> None:
    assert trained_chain({}, 7) == Chain(7, 0.25, 0.005, 1.0)
    options = {"sgld_step_size": 0.5, "sgld_noise": 0.0, "sgld_clip": 2.0, "sgld_steps": 9}
    assert trained_chain(options, 3) == Chain(3, 0.5, 0.0, 2.0)
