"""Batches on the device, cropped and flipped."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..core.rng import mix
from ..errors import UsageProblem
from ..runtime.words import counted
from .images import Images, to_unit_range

# A crop may be shifted by this part of the image's side in each direction: by 4 pixels of CIFAR's
# 32, as is the custom (He et al. 2016).
CROP = 1 / 8


class Loader:
    """Training batches in a new order each epoch, augmented as `augment` says.

    Order and augmentation are functions of the seed, the epoch and the place in the epoch
    alone, drawn on the CPU: a resumed run sees what the uninterrupted one would have seen, on
    any device. The last partial batch is dropped; a set smaller than a batch is one batch.

    `batch_size` counts the images of all processes; `part` is this process's part of each batch,
    and the number of parts.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        augment: str,
        seed: int,
        part: tuple[int, int] = (0, 1),
        extra: Images | None = None,
        extra_share: float = 0.0,
    ) -> None:
        if batch_size < 1:
            raise UsageProblem(f"the batch size must be at least 1, not {batch_size}")
        self.images, self.extra = images, extra
        self.others = ""  # a digest of what the method draws from besides
        self.batch_size = min(batch_size, len(images))
        self.part, self.parts = part
        if self.batch_size % self.parts:
            raise UsageProblem(
                f"batches of {counted(self.batch_size, 'image')} cannot be split over "
                f"{self.parts} processes",
                f"use a `--batch-size` divisible by {self.parts}",
            )
        self.flip = augment.endswith("flip")
        side = 32 if augment.startswith("crop4") else min(images.shape[1:])
        self.shift = round(CROP * side) if augment.startswith("crop") else 0
        self.seed = seed
        count = round(extra_share * self.batch_size)
        if extra and not count:
            raise UsageProblem(
                f"an extra share of {extra_share:g} is less than an image of a batch of "
                f"{self.batch_size}",
                "raise `--extra-share` or `--batch-size`, or leave `--extra` out",
            )
        places = torch.arange(self.batch_size + 1) * count // self.batch_size
        self.from_extra = (places.diff() > 0).chunk(self.parts)[self.part]

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    @property
    def share(self) -> int:
        """Images of a batch that this process has."""
        return self.batch_size // self.parts

    @property
    def digest(self) -> str:
        """A digest of all images and labels."""
        digests = [self.images.digest, self.extra.digest if self.extra else "", self.others]
        return "+".join(filter(None, digests))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of `epoch` from batch `start` on.

        Those are images in [0, 1], float32 (b, C, H, W), and labels, int64 (b,).
        """
        x, y = self.images.x, self.images.y
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        order = torch.randperm(len(x), generator=generator).to(x.device)
        shifts, flips = torch.zeros(len(x), 2, dtype=torch.int64), torch.zeros(len(x)).bool()
        if self.shift:
            size = 2 * self.shift + 1
            shifts = torch.randint(size, (len(x), 2), generator=generator) - self.shift
        if self.flip:
            flips = torch.randint(2, (len(x),), generator=generator).bool()
        shifts, flips = shifts.to(x.device), flips.to(x.device)
        replaced = self.from_extra.to(x.device)
        drawn = torch.randint(len(self.extra or x), (len(x),), generator=generator).to(x.device)
        for batch in range(start, len(self)):
            first = batch * self.batch_size + self.part * self.share
            part = slice(first, first + self.share)
            chosen = order[part]
            pixels, labels = x[chosen], y[chosen]
            if self.extra:
                more = drawn[part][replaced]
                pixels[replaced], labels[replaced] = self.extra.x[more], self.extra.y[more]
            if self.shift or self.flip:
                pixels = crop_and_flip(pixels, shifts[part], flips[part])
            yield to_unit_range(pixels), labels


def crop_and_flip(x: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """Shift each of the images (b, C, H, W), reflected at its borders, and mirror some.

    `shifts` are rows and columns, int64 (b, 2), and `flips` bool (b,).
    """
    batch, channels, height, width = x.shape
    rows = _window(shifts[:, 0], height)
    columns = _window(shifts[:, 1], width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).reshape(batch, 1, -1)
    cut = x.flatten(2).gather(2, pixels.expand(-1, channels, -1))
    return cut.view(batch, channels, height, width)


def _window(shift: Tensor, side: int) -> Tensor:
    """Return which of `side` pixels each place of the shifted window shows, int64 (b, side)."""
    place = torch.arange(side, device=shift.device) + shift[:, None]
    last = side - 1
    # A triangle wave: 0 1 .. last .. 1 0 1 .., so that small images are reflected repeatedly.
    return last - (place.remainder(2 * last) - last).abs() if last else torch.zeros_like(place)
