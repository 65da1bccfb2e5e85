"""The loader: order and augmentation follow from the seed and the place alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jeatcli.data.images import Images, batches
from jeatcli.data.loader import Loader, crop_and_flip
from jeatcli.errors import UsageProblem


def images(n: int, shape: tuple[int, int, int] = (3, 32, 32)) -> Images:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (n, *shape), dtype=torch.uint8, generator=generator)
    return Images("noise", x, torch.arange(n), ("a", "b"))


def equal(some: list[tuple[Tensor, Tensor]], others: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(some, others, strict=True)
    return all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)


@pytest.mark.parametrize("augment", ["none", "crop", "flip", "crop+flip"])
def test_batches_depend_on_seed_and_place_alone(augment: str) -> None:
    data = images(50)
    loader = Loader(data, 8, augment=augment, seed=3)
    whole = list(loader.epoch(2))
    assert len(whole) == len(loader) == 6
    torch.manual_seed(99)
    fresh = Loader(data, 8, augment=augment, seed=3)
    assert equal(whole[4:], list(fresh.epoch(2, start=4)))
    assert list(fresh.epoch(2, start=6)) == []
    assert not equal(whole, list(loader.epoch(3)))
    assert not equal(whole, list(Loader(data, 8, augment=augment, seed=4).epoch(2)))


def test_the_loader_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    next(Loader(images(20), 8, augment="crop+flip", seed=0).epoch(0))
    assert torch.equal(before, torch.get_rng_state())


def test_an_epoch_shows_each_image_once() -> None:
    data = images(40)
    x, y = (
        torch.cat(part)
        for part in zip(*Loader(data, 8, augment="none", seed=0).epoch(0), strict=True)
    )
    assert sorted(y.tolist()) == list(range(40))
    assert y.tolist() != list(range(40))
    assert x.dtype == torch.float32
    assert torch.equal(x, data.x[y].float() / 255)


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    loader = Loader(images(5), 8, augment="none", seed=0)
    assert len(loader) == 1
    assert [len(y) for _, y in loader.epoch(0)] == [5]
    with pytest.raises(UsageProblem, match="batches of 1 image cannot be split over 2 processes"):
        Loader(images(5), 1, augment="none", seed=0, part=(0, 2))
    with pytest.raises(UsageProblem):
        Loader(images(5), 0, augment="none", seed=0)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 6, 9), (3, 5, 5)])
def test_crops_are_windows_of_the_reflected_image(shape: tuple[int, int, int]) -> None:
    x = images(81 * 2, shape).x
    _, height, width = shape
    shifts = torch.cartesian_prod(torch.arange(9), torch.arange(9)).repeat(2, 1)
    flips = torch.arange(len(x)) >= 81
    cut = crop_and_flip(x, shifts - 4, flips)
    padded = torch.nn.functional.pad(x.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)
    for image, window, (top, left), flip in zip(padded, cut, shifts.tolist(), flips, strict=True):
        expected = image[:, top : top + height, left : left + width]
        assert torch.equal(window, expected.flip(2) if flip else expected)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_tiny_images_can_be_cropped(side: int) -> None:
    x, _ = next(Loader(images(30, (1, side, side)), 30, augment="crop+flip", seed=0).epoch(0))
    assert x.shape == (30, 1, side, side)


def test_half_of_the_images_are_flipped_and_all_shifts_occur() -> None:
    """Images whose pixels tell their place show which window was cut."""
    place = torch.arange(32 * 32).view(1, 1, 32, 32).expand(4000, 2, -1, -1)
    x = torch.stack([place[:, 0] // 32, place[:, 1] % 32], 1).to(torch.uint8)
    data = Images("places", x, torch.zeros(4000, dtype=torch.int64), ("a", "b"))
    (cut, _), *_ = Loader(data, 4000, augment="crop+flip", seed=1).epoch(0)
    cut = (cut * 255).round().long()
    flipped = cut[:, 1, 16, 16] < cut[:, 1, 16, 15]
    assert flipped.float().mean() == pytest.approx(0.5, abs=0.03)
    tops = cut[:, 0, 16, 16] - 16
    assert (tops.min(), tops.max()) == (-4, 4)
    assert (tops + 4).bincount().min() > 350


def pixels_of(side: int, augment: str) -> torch.Tensor:
    """Return 64 copies of an image, each pixel another, as they are augmented."""
    place = torch.arange(side * side).view(1, 1, side, side).expand(64, -1, -1, -1)
    data = Images("places", place.to(torch.uint8), torch.zeros(64, dtype=torch.int64), ("a",))
    (x, _), *_ = Loader(data, 64, augment=augment, seed=1).epoch(0)
    return (x * 255).round().long()


def test_none_changes_nothing_and_flip_mirrors_alone() -> None:
    image = torch.arange(64).view(8, 8)
    assert (pixels_of(8, "none") == image).all()
    flipped = pixels_of(8, "flip")
    mirrored = (flipped == image.flip(1)).flatten(1).all(1)
    assert mirrored.any()
    assert (mirrored | (flipped == image).flatten(1).all(1)).all()
    assert not mirrored.all()


@pytest.mark.parametrize(
    ("side", "augment", "shift"), [(8, "crop", 1), (16, "crop", 2), (8, "crop4+flip", 4)]
)
def test_crops_shift_by_an_eighth_of_the_side(side: int, augment: str, shift: int) -> None:
    middle = side // 2
    rows = pixels_of(side, augment)[:, 0, middle, 0] // side - middle
    if shift < middle:  # else the image is reflected
        assert rows.unique().tolist() == list(range(-shift, shift + 1))
    else:
        assert rows.unique().tolist() == list(range(-shift, shift))


def test_crop_alone_mirrors_nothing() -> None:
    x = pixels_of(8, "crop")
    assert (x[:, 0, 4, 4] - x[:, 0, 4, 3] == 1).all()


def test_evaluation_batches_are_all_images_in_order() -> None:
    data = images(21)
    parts = list(batches(data, 8))
    assert [len(y) for _, y in parts] == [8, 8, 5]
    x = torch.cat([x for x, _ in parts])
    assert x.dtype == torch.float32
    assert torch.equal((x * 255).round().to(torch.uint8), data.x)
    assert torch.equal(torch.cat([y for _, y in parts]), data.y)


@pytest.mark.gpu
def test_the_device_does_not_change_the_batches() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    data = images(64)
    here = list(Loader(data, 16, augment="crop+flip", seed=0).epoch(0))
    there = list(Loader(data.to("cuda"), 16, augment="crop+flip", seed=0).epoch(0))
    assert equal(here, [(x.cpu(), y.cpu()) for x, y in there])


@pytest.mark.parametrize(("share", "count"), [(0.7, 7), (0.25, 2), (1.0, 10)])
def test_extra_images_have_their_share_of_each_batch(share: float, count: int) -> None:
    """At the same places in every batch, spread evenly; the others are those without extra."""
    data, more = images(50), Images("more", images(33).x, 100 + torch.arange(33), ("a", "b"))
    options = {"augment": "crop+flip", "seed": 3}
    mixed = Loader(data, 10, **options, extra=more, extra_share=share)
    plain = list(Loader(data, 10, **options).epoch(1))
    assert len(mixed) == len(plain) == 5
    drawn = set()
    for (x, y), (u, v) in zip(mixed.epoch(1), plain, strict=True):
        extra = y >= 100
        assert extra.sum() == count
        assert torch.equal(extra, mixed.from_extra)
        assert torch.equal(x[~extra], u[~extra])
        assert torch.equal(y[~extra], v[~extra])
        drawn |= set(y[extra].tolist())
    assert len(drawn) > count
    assert equal(list(mixed.epoch(1))[3:], list(mixed.epoch(1, start=3)))
    parts = [
        Loader(data, 10, **options, extra=more, extra_share=share, part=(k, 2)) for k in (0, 1)
    ]
    assert abs(parts[0].from_extra.sum() - parts[1].from_extra.sum()) <= 1
    halves = [list(part.epoch(1)) for part in parts]
    whole = [tuple(map(torch.cat, zip(*pair, strict=True))) for pair in zip(*halves, strict=True)]
    assert equal(whole, list(mixed.epoch(1)))
    assert mixed.digest == f"{data.digest}+{more.digest}"
