"""Random numbers by seed and position: the same in any batch, process and version."""

from __future__ import annotations

import pytest
import torch

from jeatcli.core.rng import BatchRng, ImageRng, mix

LIKE = torch.empty(6, 2, 3, 3)


@pytest.mark.parametrize(
    ("parts", "known"),
    [
        ((0,), 8147104208329303767),  # half of SplitMix64's first number of seed 0
        ((1,), 5225608189600411232),
        ((1, 2), 6804074658870690613),
        ((-1,), 8245168133484221968),
        ((2**64 + 5, 7), 5683034176900758862),
    ],
)
def test_a_seed_means_the_same_for_good(parts: tuple[int, ...], known: int) -> None:
    assert mix(*parts) == known


def test_mixed_seeds_do_not_collide() -> None:
    seeds = {mix(a, b) for a in range(100) for b in range(100)}
    assert len(seeds) == 10_000
    assert mix(1, 2) != mix(2, 1)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_a_batch_draws_the_generators_numbers(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    draw = torch.rand if kind == "uniform" else torch.randn
    drawn = getattr(BatchRng(3), kind)(LIKE)
    assert torch.equal(drawn, draw(LIKE.shape, generator=generator))
    assert getattr(BatchRng(3), kind)(LIKE.double()).dtype == torch.float64


def test_processes_share_out_the_numbers_of_the_whole_batch() -> None:
    whole, shares = BatchRng(3), [BatchRng(3, part=(k, 2)) for k in range(2)]
    for kind in ("uniform", "normal"):
        parts = [getattr(share, kind)(LIKE[:3]) for share in shares]
        assert torch.equal(torch.cat(parts), getattr(whole, kind)(LIKE))
    assert torch.equal(torch.cat([share.integers(9, 3) for share in shares]), whole.integers(9, 6))


def test_integers_cover_their_range_and_choices_differ() -> None:
    assert BatchRng(0).integers(4, 200).unique().tolist() == [0, 1, 2, 3]
    chosen = BatchRng(0).choice(10, 10)
    assert chosen.sort().values.tolist() == list(range(10))
    assert len(BatchRng(0).choice(10, 4)) == 4
    first, second = (BatchRng(0, part=(k, 2)).choice(1000, 20) for k in range(2))
    assert torch.equal(first, BatchRng(0).choice(1000, 20))
    assert not torch.equal(first, second)


def test_an_image_draws_the_same_numbers_in_any_batch() -> None:
    seeds = [mix(7, k) for k in range(6)]
    whole, part = ImageRng(seeds), ImageRng(seeds[2:4])
    assert torch.equal(whole.normal(LIKE)[2:4], part.normal(LIKE[2:4]))
    kept = whole.take(torch.tensor([2, 3]))
    assert torch.equal(kept.uniform(LIKE[2:4]), part.uniform(LIKE[2:4]))
    alone = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(seeds[5]))
    assert torch.equal(ImageRng(seeds).uniform(LIKE)[5], alone)
    assert ImageRng(seeds).normal(LIKE.double()).dtype == torch.float64


def test_numbers_are_drawn_on_the_cpu_and_go_where_the_images_are() -> None:
    expected = ImageRng([1, 2]).normal(LIKE[:2])
    with torch.device("meta"):
        assert torch.equal(ImageRng([1, 2]).normal(LIKE[:2]), expected)
    assert ImageRng([1, 2]).normal(LIKE[:2].to("meta")).device.type == "meta"
