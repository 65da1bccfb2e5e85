"""Images that need no download: the digits inside the package, and folders of pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import JeatError
from ..runtime.progress import Reporter

# What a data set is before it has a name: uint8 images (n, C, H, W), int64 labels (n,), classes.
Parts = tuple[Tensor, Tensor, tuple[str, ...]]

TEST_SHARE = 0.1
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
# Pillow's modes of one channel, and those that turn into RGB with 8 bits a channel.
GREY_MODES = {"1", "L", "LA"}
COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


def deal(names: Sequence[str], labels: Sequence[int]) -> list[int]:
    """Order images so that every beginning of the order holds the classes in proportion.

    Within a class the order is that of a hash of the names: it looks random, and is the same
    on every machine and with every version of every library.

    Returns:
        The indices of the images.
    """
    sizes = Counter(labels)
    seen: Counter[int] = Counter()
    place = {}
    for index in sorted(range(len(names)), key=lambda index: _hash(names[index])):
        label = labels[index]
        place[index] = ((seen[label] + 0.5) / sizes[label], label)
        seen[label] += 1
    return sorted(place, key=lambda index: place[index])


def folder(path: Path, split: str, reporter: Reporter) -> Parts:
    """Read pictures from one directory per class.

    With `path/train` and `path/test` these are the splits; without, a fixed tenth of the
    pictures, chosen by a hash of their names, is the test set. The pictures keep their size,
    which must be the same for all; they are grey if all of them are, else RGB.

    Raises:
        JeatError: If there is no such folder, or something in it cannot be used.
    """
    if not path.is_dir():
        raise JeatError(
            f"`{path}` is no directory",
            "put the pictures there, or write `folder:PATH` with an existing PATH",
        )
    if (path / "train").is_dir() and (path / "test").is_dir():
        classes = _classes(path / "train")
        listed = {name: _pictures(path / name, classes) for name in ("train", "test")}
    else:
        classes = _classes(path)
        every = _pictures(path, classes)
        kept = len(every) - max(1, round(TEST_SHARE * len(every)))
        listed = {"train": every[:kept], "test": every[kept:]}
    # Both splits decide: a single colour picture in either makes the images of both RGB.
    shape = _shape([picture for pictures in listed.values() for picture, _ in pictures])
    x = _decode([picture for picture, _ in listed[split]], shape, reporter)
    return x, torch.tensor([label for _, label in listed[split]]), classes


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _directories(path: Path) -> list[str]:
    return sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] not in "._"
    )


def _classes(path: Path) -> tuple[str, ...]:
    names = _directories(path)
    if len(names) < 2:
        found = f"only `{names[0]}`" if names else "none"
        raise JeatError(
            f"`{path}` needs at least two directories, one per class, and has {found}",
            "put the pictures of each class into a directory of its own, such as "
            f"`{path / 'cat'}` and `{path / 'dog'}`",
        )
    return tuple(names)


def _pictures(path: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Return the pictures of `path` and the index of each one's class, in the dealt order."""
    if strange := sorted(set(_directories(path)) - set(classes)):
        raise JeatError(
            f"`{path / strange[0]}` is no class of the training pictures",
            f"the classes are {', '.join(classes)}",
        )
    found = []
    for label, name in enumerate(classes):
        pictures = _listed(path / name)
        if not pictures:
            raise JeatError(
                f"class `{name}` has no picture directly in `{path / name}`",
                f"put pictures there ({' '.join(sorted(SUFFIXES))}) or remove the class; where "
                "the data set comes in splits, they are called `train` and `test`",
            )
        found += [(picture, label) for picture in pictures]
    names = [f"{picture.parent.name}/{picture.name}" for picture, _ in found]
    return [found[index] for index in deal(names, [label for _, label in found])]


def _listed(path: Path) -> list[Path]:
    entries = sorted(path.iterdir()) if path.is_dir() else []
    return [
        entry
        for entry in entries
        if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
    ]


@contextmanager
def _opened(picture: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(picture) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise JeatError(
            f"`{picture}` is no readable picture: {problem}", "mend or remove the file"
        ) from problem


def _shape(pictures: Sequence[Path]) -> tuple[int, int, int]:
    """Return the channels, height and width that all `pictures` have, from their headers."""
    size: tuple[int, int] | None = None
    grey = True
    for picture in pictures:
        with _opened(picture) as image:
            found, mode = image.size, image.mode
        size = size or found
        if found != size:
            raise JeatError(
                f"pictures of different sizes: `{pictures[0]}` is {size[0]}x{size[1]}, "
                f"`{picture}` is {found[0]}x{found[1]}",
                "scale all pictures to one size first",
            )
        if mode not in GREY_MODES | COLOUR_MODES:
            raise JeatError(
                f"`{picture}` has pixels of mode {mode}, not of 8 bits a channel",
                "save it as greyscale or RGB with 8 bits a channel",
            )
        grey = grey and mode in GREY_MODES
    assert size is not None
    return (1 if grey else 3, size[1], size[0])


def _decode(pictures: Sequence[Path], shape: tuple[int, int, int], reporter: Reporter) -> Tensor:
    channels, height, width = shape
    pixels = np.empty((len(pictures), height, width, channels), dtype=np.uint8)
    with reporter.track("reading pictures", len(pictures)) as bar:
        for row, picture in zip(pixels, pictures, strict=True):
            with _opened(picture) as image:
                # A palette with transparency turns into RGB by way of RGBA alone.
                plain = image.convert("RGBA") if image.mode in ("P", "PA") else image
                row[:] = np.asarray(plain.convert("L" if channels == 1 else "RGB")).reshape(
                    row.shape
                )
            bar(1)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
