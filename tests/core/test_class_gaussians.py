"""The statistics of the classes against covariances of torch's, and draws from them."""

from __future__ import annotations

import pytest
import torch

from jeatcli.core import class_gaussians
from jeatcli.core.class_gaussians import ClassGaussians
from jeatcli.core.rng import BatchRng


def test_the_statistics_of_one_image_are_that_image() -> None:
    x = torch.full((1, 1, 4, 4), 51, dtype=torch.uint8)
    statistics = ClassGaussians.fit(x, torch.tensor([1]), 2)
    torch.testing.assert_close(statistics.mean, torch.full((2, 1, 4, 4), 0.2))
    assert not statistics.factor.any()
    torch.testing.assert_close(statistics.ridge, torch.full((2,), 1e-4))


def test_class_statistics_give_back_mean_and_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = torch.randn(2, 3, 16, generator=generator) * 0.04
    y = torch.arange(8000) % 2
    weights = torch.randn(8000, 3, generator=generator)
    pixels = 0.5 + torch.einsum("nr,nrd->nd", weights, shapes[y])
    x = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).view(-1, 1, 4, 4)
    statistics = ClassGaussians.fit(x, y, 2, rank=4)
    drawn = statistics.draw(y, torch.empty(8000, 1, 4, 4), BatchRng(1))
    for label in (0, 1):
        real, ours = x[y == label].flatten(1) / 255, drawn[y == label].flatten(1)
        torch.testing.assert_close(ours.mean(0), real.mean(0), atol=4e-3, rtol=0)
        torch.testing.assert_close(torch.cov(ours.T), torch.cov(real.T), atol=1e-3, rtol=0)


def test_starts_are_drawn_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole buffer's directions at once would be many times the buffer."""
    x = torch.randint(256, (60, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    statistics = ClassGaussians.fit(x.to(torch.uint8), torch.arange(60) % 3, 3, rank=4)
    y, like = torch.arange(50) % 3, torch.empty(50, 1, 4, 4)
    whole = statistics.draw(y, like, BatchRng(1))
    gathered: list[int] = []
    einsum = torch.einsum

    def watched(equation: str, *operands: torch.Tensor) -> torch.Tensor:
        gathered.append(operands[1].numel())
        return einsum(equation, *operands)

    monkeypatch.setattr(torch, "einsum", watched)
    # Of 64 numbers each; at least one at a time.
    for most, images in ((500, 7), (10, 1)):
        monkeypatch.setattr(class_gaussians, "_GATHERED", most)
        gathered.clear()
        assert torch.equal(statistics.draw(y, like, BatchRng(1)), whole)
        assert max(gathered) == 64 * images
    assert statistics.draw(y[:0], like[:0], BatchRng(1)).shape == (0, 1, 4, 4)


def test_a_class_without_images_has_the_statistics_of_all() -> None:
    x = torch.randint(256, (50, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    x, y = x.to(torch.uint8), torch.arange(50) % 2
    three = ClassGaussians.fit(x, y, 3, rank=4)
    everything = ClassGaussians.fit(x, torch.zeros_like(y), 1, rank=4)
    assert torch.equal(three.mean[2], everything.mean[0])
    assert all(torch.isfinite(each).all() for each in vars(three).values())


def test_the_statistics_of_many_classes_are_of_lower_rank() -> None:
    x = torch.zeros(300, 1, 9, 9, dtype=torch.uint8)
    ranks = [
        ClassGaussians.fit(x, torch.arange(300) % count, count).factor.shape[1]
        for count in (2, 10, 20, 100)
    ]
    assert ranks == [64, 64, 32, 30]


def test_principal_directions_are_those_of_a_full_decomposition() -> None:
    x = torch.randint(256, (300, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    x = x.to(torch.uint8)
    statistics = ClassGaussians.fit(x, torch.zeros(300, dtype=torch.long), 1, rank=36)
    factor = statistics.factor[0].flatten(1)
    covariance = factor.T @ factor
    pixels = x.flatten(1).double() / 255
    known = torch.cov(pixels.T, correction=0).float()
    torch.testing.assert_close(covariance, known, atol=1e-6, rtol=1e-4)
    assert statistics.ridge.item() == pytest.approx(1e-4)


@pytest.mark.parametrize("rank", [10, 35])
def test_what_is_left_out_of_the_directions_is_the_ridge(rank: int) -> None:
    x = torch.randint(256, (300, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    x = x.to(torch.uint8)
    statistics = ClassGaussians.fit(x, torch.zeros(300, dtype=torch.long), 1, rank=rank)
    pixels = x.flatten(1).double() / 255
    spectrum = torch.linalg.eigvalsh(torch.cov(pixels.T, correction=0)).float()
    assert statistics.ridge.item() == pytest.approx(
        spectrum[: 36 - rank].mean().item() + 1e-4, rel=0.01
    )


def test_a_draw_is_mean_directions_and_rest() -> None:
    mean, factor = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[0.1, 0.0], [0.0, 0.02]])
    statistics = ClassGaussians(mean, factor.view(1, 2, 1, 1, 2), torch.tensor([1e-4]))
    y, like = torch.zeros(5, dtype=torch.long), torch.empty(5, 1, 1, 2)
    rng = BatchRng(2)
    weights = rng.normal(torch.empty(5, 2, 1, 1)).view(5, 2)
    rest = rng.normal(like)
    spread = (weights @ factor).view(5, 1, 1, 2)
    expected = (mean + spread + 0.01 * rest).clamp(0, 1)
    torch.testing.assert_close(statistics.draw(y, like, BatchRng(2)), expected)
    two = statistics.sample_pca(y, like, BatchRng(2), 2)
    torch.testing.assert_close(two, (mean + spread).clamp(0, 1))
    one = statistics.sample_pca(y, like, BatchRng(2), 1)
    assert (one[..., 1] == 0.5).all()
    far = ClassGaussians(mean, 90 * factor.view(1, 2, 1, 1, 2), torch.tensor([1e-4]))
    for images in (far.sample_pca(y, like, BatchRng(2), 2), far.draw(y, like, BatchRng(2))):
        assert images.min() == 0
        assert images.max() == 1


def test_all_statistics_go_to_the_device() -> None:
    x, y = torch.randint(256, (9, 1, 2, 2), dtype=torch.uint8), torch.arange(9) % 2
    statistics = ClassGaussians.fit(x, y, 2)
    assert {each.device.type for each in vars(statistics.to("meta")).values()} == {"meta"}
