"""Which of the test images are attacked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..data.images import Images
from ..errors import JeatError, UsageProblem
from ..runtime.progress import Reporter

CPU_IMAGES = 1000


@dataclass(frozen=True)
class Selection:
    """A choice of images.

    Args:
        num: So many, the first ones; None is all, or 1,000 on a CPU.
        indices: A file with the places of the images in the test set, one or more a line.
        only: The class that the images must be of, or None.
        aim: The class that they must not be of, since it is to be reached, or None.
    """

    num: int | None = None
    indices: Path | None = None
    only: int | None = None
    aim: int | None = None

    def of(self, images: Images, device: torch.device, reporter: Reporter) -> tuple[Images, Tensor]:
        """Return the images on the device, and their places in the test set (n,).

        Raises:
            UsageProblem: If there are not as many, or none at all.
            JeatError: If the file of indices cannot be read.
        """
        places = torch.arange(len(images))
        if self.indices is not None:
            places = read_indices(self.indices, len(images))
        if self.only is not None:
            places = places[images.y[places] == self.only]
            if not len(places):
                name = images.classes[self.only]
                among = "the test images" if self.indices is None else f"those of `{self.indices}`"
                raise UsageProblem(f"no image among {among} is of class `{name}`")
        places = places[: self._count(images, len(places), device, reporter)]
        if self.aim is not None:
            places = places[images.y[places] != self.aim]
        if not len(places):
            hint = "give more by `-n`" if self.only != self.aim else "name two classes"
            raise UsageProblem("all the images are of the target class", hint)
        chosen = replace(images, x=images.x[places], y=images.y[places])
        return chosen.to(device), places

    def _count(
        self, images: Images, available: int, device: torch.device, reporter: Reporter
    ) -> int:
        if self.num is None:
            if device.type == "cpu" and available > CPU_IMAGES and self.indices is None:
                reporter.say(
                    f"on a CPU the first {CPU_IMAGES:,} of {available:,} test images are used"
                )
                return CPU_IMAGES
            return available
        if not 1 <= self.num <= available:
            where = "" if self.indices is None else f" in `{self.indices}`"
            kind = "" if self.only is None else f" of class `{images.classes[self.only]}`"
            raise UsageProblem(
                f"there are {available:,} test images{where}{kind}, not {self.num:,}",
                "give `-n` less",
            )
        return self.num


def mixed(images: Images, count: int) -> Images:
    """Return so many from all over a set, at most: those of one class may all look alike."""
    places = torch.linspace(0, len(images) - 1, min(count, len(images))).long()
    return replace(images, x=images.x[places], y=images.y[places])


def read_indices(path: Path, available: int) -> Tensor:
    """Read places in the test set, whole numbers between white space or commas.

    Raises:
        JeatError: If the file cannot be read.
        UsageProblem: If something in it is no place, or is there twice.
    """
    try:
        words = path.read_text(encoding="utf-8").replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is no text"
        raise JeatError(f"cannot read `{path}`: {reason}", "give a text file of numbers") from None
    for word in words:
        if not (word.isdecimal() and int(word) < available):
            raise UsageProblem(
                f"`{word}` in `{path}` is no index of a test image",
                f"they are numbered 0 to {available - 1}",
            )
    if not words:
        raise UsageProblem(f"`{path}` holds no index")
    places = [int(word) for word in words]
    if len(set(places)) < len(places):
        raise UsageProblem(f"an index is twice in `{path}`", "an image counts once")
    return torch.tensor(places)
