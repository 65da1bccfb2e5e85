"""The samplers against closed forms and against the chain and the ascent that training uses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers.runs import load_run
from torch import Tensor

from jeatcli.checkpoints.model import Model
from jeatcli.core import pgd
from jeatcli.core.rng import BatchRng
from jeatcli.core.sgld import Chain, langevin
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.sampling import samplers
from jeatcli.sampling.direct_ascent import DirectAscent
from jeatcli.sampling.samplers import Ascent, Pgd, Sampler, Sgld, descend
from jeatcli.sampling.settings import SamplerSettings

SGLD = Sgld(steps=6, step_size=0.05, noise=0.01)
ASCENT = Ascent(steps=6, step_size=0.05)
PGD = Pgd(steps=6, step_size=0.3, eps=0.7)


def bowl(x: Tensor) -> Tensor:
    """Return the energy of a slanted bowl, the lowest at 0.4."""
    return 2 * (x - 0.4).square().flatten(1).sum(1)


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_sgld_is_the_chain_of_the_training(clip: float) -> None:
    ours = descend(replace(SGLD, clip=clip), bowl, images(), BatchRng(1))
    theirs = langevin(bowl, images(), Chain(6, 0.05, 0.01, clip), BatchRng(1))
    assert torch.equal(ours, theirs)


def test_pgd_is_the_ascent_that_keeps_the_best() -> None:
    ours = descend(PGD, bowl, images(), BatchRng(1))
    theirs = pgd.ascend(
        lambda x: -bowl(x), images(), pgd.L2(0.7), steps=6, step_size=0.3, keep_best=True
    )
    assert torch.equal(ours, theirs)
    assert (pgd.l2_norm(ours - images()) <= 0.7 + 1e-6).all()


def test_momentum_repeats_a_part_of_the_last_step() -> None:
    x, velocity = images(), torch.zeros_like(images())
    for _ in range(6):
        velocity = 0.8 * velocity - 0.05 * 4 * (x - 0.4)
        x = (x + velocity).clamp(0, 1)
    ours = descend(replace(SGLD, noise=0.0, momentum=0.8), bowl, images(), BatchRng(0))
    torch.testing.assert_close(ours, x)


@pytest.fixture
def model() -> Model:
    return load_run("plain")


def variance_at_the_end(stiffness: float, descent: Sampler) -> float:
    """Return the variance of a pixel after the chain on k/2 |x|^2, from the middle."""
    start = torch.full((500, 1, 8, 8), 0.5)

    def energy(x: Tensor) -> Tensor:
        return stiffness / 2 * (x - 0.5).square().flatten(1).sum(1)

    return descend(descent, energy, start, BatchRng(0)).var().item()


def test_the_temperature_is_that_of_the_stationary_law() -> None:
    """On k/2 |x|^2 the chain of step a at temperature T has the variance T / (k (1 - a k / 2))."""
    stiffness, step, temperature = 4.0, 0.1, 0.002
    warm = SGLD.changed({"temperature": temperature, "step_size": step, "steps": 60})
    known = temperature / (stiffness * (1 - step * stiffness / 2))
    assert variance_at_the_end(stiffness, warm) == pytest.approx(known, rel=0.02)


def stationary_variance(stiffness: float, descent: Sampler) -> float:
    """Return the variance of x under x - a v + s N(0, 1), v = m v + k x: P = A P A^T + Q."""
    k, a, m = stiffness, descent.step_size, descent.momentum
    moves = torch.tensor([[1 - a * k, -a * m], [k, m]], dtype=torch.float64)
    noise = torch.tensor([descent.noise**2, 0.0, 0.0, 0.0], dtype=torch.float64)
    both = torch.eye(4, dtype=torch.float64) - torch.kron(moves, moves)
    return float(torch.linalg.solve(both, noise)[0])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_leaves_the_temperature_as_it_is(momentum: float) -> None:
    stiffness, temperature = 4.0, 0.002
    given = {"temperature": temperature, "momentum": momentum}
    step = 0.005 * (1 - momentum)
    warm = replace(SGLD, steps=250).changed({**given, "step_size": step})
    known = stationary_variance(stiffness, warm)
    assert variance_at_the_end(stiffness, warm) == pytest.approx(known, rel=0.02)
    slow = SGLD.changed({**given, "step_size": step / 100})
    limit = stationary_variance(stiffness, slow)
    assert limit == pytest.approx(temperature / stiffness, rel=0.003)


def test_a_temperature_lifts_the_clip() -> None:
    clipped = replace(SGLD, clip=0.3)
    assert clipped.changed({"temperature": 0.1}).clip == 0
    assert clipped.changed({"temperature": 0.1, "clip": 0.2}).clip == 0.2
    assert clipped.changed({"noise": 0.1}).clip == 0.3


def test_an_ascent_moves_by_its_step_along_the_gradient() -> None:
    weights = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(2))
    start = torch.full((3, 1, 4, 4), 0.5)
    end = descend(ASCENT, lambda x: (weights * x).flatten(1).sum(1), start, BatchRng(0))
    torch.testing.assert_close(end, start - 6 * 0.05 * weights / weights.norm())


def test_direct_ascent_moves_the_parts_of_all_resolutions() -> None:
    """One step, by the parts themselves: the image is the sum of them, each enlarged."""
    weights = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(3))
    parts = [
        torch.zeros(1, 1, *size, requires_grad=True) for size in ((1, 1), (2, 2), (4, 4), (4, 6))
    ]
    start = torch.full((1, 1, 4, 6), 0.5)

    def enlarged(part: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(part, size=(4, 6), mode="bilinear")

    (weights * (start + sum(map(enlarged, parts)))).sum().backward()
    gradients = [enlarged(part.grad) for part in parts if part.grad is not None]
    step = pgd.normalize_l2(sum(pgd.normalize_l2(gradient) for gradient in gradients))
    still = DirectAscent(steps=1, step_size=0.2, noise=0.0)
    end = descend(still, lambda x: (weights * x).flatten(1).sum(1), start, BatchRng(0))
    torch.testing.assert_close(end, start - 0.2 * step)


def test_direct_ascent_disturbs_what_the_network_sees() -> None:
    seen: list[Tensor] = []

    def energy(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    start = torch.arange(256.0).view(1, 1, 16, 16) / 256
    jittered = DirectAscent(steps=40, step_size=0.0, noise=0.0)
    descend(jittered, energy, start, BatchRng(0))
    shifts = {int(x[0, 0].argmin()) for x in seen}
    assert len(shifts) > 12
    assert all((k // 16 + 8) % 16 in range(6, 11) and (k + 8) % 16 in range(6, 11) for k in shifts)
    seen.clear()
    descend(replace(jittered, noise=0.1), energy, torch.full((1, 1, 16, 16), 0.5), BatchRng(0))
    assert torch.stack(seen).std().item() == pytest.approx(0.1, rel=0.05)


def test_direct_ascent_shifts_by_an_eighth_of_each_side() -> None:
    seen: list[Tensor] = []

    def energy(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    start = torch.arange(16.0).view(1, 1, 16, 1) / 16
    descend(DirectAscent(steps=40, step_size=0.0, noise=0.0), energy, start, BatchRng(0))
    assert {int(x[0, 0, :, 0].argmin()) for x in seen} == {14, 15, 0, 1, 2}


@pytest.mark.parametrize("descent", [SGLD, ASCENT, PGD], ids=lambda each: type(each).__name__)
def test_an_image_rests_where_its_energy_is_low_enough(descent: Sampler) -> None:
    start, low = images(8), 0.5 * bowl(images(8)).max().item()
    way: list[Tensor] = []
    stopping = replace(descent, steps=40, stop=low)
    end = descend(stopping, bowl, start, BatchRng(1), watch=lambda step, x: way.append(x.clone()))
    # Every step is seen, those on which all rest included.
    assert len(way) == 41
    assert torch.equal(way[-2], way[-1]) or descent is PGD
    rested = bowl(start) <= low
    assert rested.any()
    assert not rested.all()
    assert torch.equal(end[rested], start[rested])
    assert (bowl(end) <= low).all()
    alone = descend(stopping, bowl, start[3:4], BatchRng(1))
    if descent is not SGLD:
        torch.testing.assert_close(end[3:4], alone)
    for before, after in pairwise(way):
        there = bowl(before) <= low
        assert torch.equal(before[there], after[there])


def test_an_image_that_rests_does_not_go_on_where_noise_lifts_its_energy() -> None:
    """What `das` sees is noisy: the value at which an image came to rest may be higher next."""
    way: list[Tensor] = []
    noisy = DirectAscent(steps=40, step_size=0.02, noise=0.3, stop=1.5)
    start = 0.4 + 0.1 * (images(8) - 0.5)
    descend(noisy, bowl, start, BatchRng(1), watch=lambda step, x: way.append(x.clone()))
    moved = torch.stack([(after != before).any((1, 2, 3)) for before, after in pairwise(way)])
    assert moved.any(1)[:-1].sum() > 2
    assert not moved[-1].any()
    # Whoever does not move in one step does not in the next either.
    assert not (moved[1:] & ~moved[:-1]).any()


def test_what_is_held_does_not_change() -> None:
    kept = torch.zeros(4, 4, dtype=torch.bool)
    kept[:2] = True
    for descent in (SGLD, ASCENT, PGD):
        end = descend(
            descent, bowl, images(), BatchRng(0), hold=lambda x: torch.where(kept, images(), x)
        )
        assert torch.equal(end[..., :2, :], images()[..., :2, :])
        assert not torch.equal(end[..., 2:, :], images()[..., 2:, :])


def test_what_suits_images_of_cifar_is_what_was_published() -> None:
    """JEM's steps of 1 with noise of 0.01, in [-1, 1], are a quarter and a half in [0, 1]."""
    model = load_run("colour", dataset="cifar10")
    assert Sgld.suited(model) == Sgld(steps=100, step_size=1 / 4, noise=0.01 / 2, clip=1.0)
    assert Ascent.suited(model) == Ascent(steps=33, step_size=0.2)
    assert Pgd.suited(model) == Pgd(steps=60, step_size=0.5, eps=30.0)
    assert DirectAscent.suited(model) == DirectAscent(steps=60, step_size=0.5, noise=0.1)


def resolved(model: Model, given: dict[str, object]) -> Sampler:
    settings = SamplerSettings.of(given)
    return samplers.resolve(settings.sampler or "sgld", model, settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "pgd", "noise": 0.1}, "`noise` belongs to the sampler `sgld`"),
        ({"sampler": "ascent", "momentum": 0.5}, "`momentum` belongs to the sampler `sgld`"),
        ({"sampler": "ascent", "eps": 1.0}, "`eps` belongs to the sampler `pgd`"),
        ({"sampler": "sgld", "eps": 1.0}, "`eps` belongs to the sampler `pgd`"),
        ({"sampler": "pgd", "temperature": 0.1}, "`temperature` belongs to the sampler `sgld`"),
        ({"sampler": "pgd", "clip": 1.0}, "`clip` belongs to the sampler `sgld`"),
        ({"sampler": "sgld", "temperature": 0.1, "noise": 0.1}, "exclude each other"),
        ({"temperature": -0.1}, "`temperature` must be at least 0"),
        ({"sampler": "sgld", "momentum": 1.0}, "below 1"),
        ({"clip": -1.0}, "at least 0"),
        ({"steps": -1}, "at least 0"),
        ({"steps": 2**63}, "`steps` must be at least 0 and at most"),
        ({"clip": 1e308}, "`clip` must be at least 0 and at most 3.4e\\+38"),
        ({"objective": "margin"}, "unknown objective"),
        ({"init": "gausian"}, "unknown init"),
        ({"guidance": 1.0, "objective": "ce"}, "`guidance` is for the objective `joint`"),
        ({"guidance": -1.5}, "at least -1"),
    ],
)
def test_settings_that_change_nothing_are_refused(
    model: Model, given: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageProblem, match=message):
        resolved(model, given)


def test_only_what_a_sampler_takes_is_described() -> None:
    assert set(PGD.describe()) == {"steps", "step_size", "eps"}
    assert set(SGLD.describe()) == {"steps", "step_size", "noise", "momentum", "clip"}
    assert SGLD.changed({"stop": -3.0}).describe()["stop"] == -3.0


@pytest.mark.parametrize("descent", [SGLD, ASCENT, PGD], ids=lambda each: type(each).__name__)
def test_energies_that_are_not_finite_are_refused(descent: Sampler) -> None:
    with pytest.raises(JeatError, match="the energies of the network are not finite"):
        descend(descent, lambda x: bowl(x) * torch.nan, images(), BatchRng(0))
