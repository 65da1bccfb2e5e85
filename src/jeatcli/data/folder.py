"""Pictures in one directory per class, split by content unless there are `train` and `test`."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import JeatError
from ..runtime.progress import Reporter
from ..runtime.words import counted
from .pictures import ENDINGS, decode, is_grey, middle_square
from .stored import Listing, check_scale, describe_left_out

# A data set without its name: uint8 images (n, C, H, W), int64 labels (n,), classes.
Parts = tuple[Tensor, Tensor, tuple[str, ...]]

TEST_SHARE = 0.1
# Published data sets by a pattern of the names of their files, which are no pictures.
_PUBLISHED = {r"-idx[13]-ubyte": "mnist", r"^(data_batch_\d|batches\.meta)$": "cifar10"}


@dataclass(frozen=True)
class _Split:
    """The pictures of a split, or of a folder without splits."""

    files: list[Path]
    labels: list[int]  # class indices
    left_out: Counter[str]  # the number of files that are not read, by ending or directory


def deal(keys: Sequence[str], labels: Sequence[int]) -> list[int]:
    """Return indices in an order of which every beginning holds the classes in proportion.

    Within a class the order is that of a hash of the keys: it looks random, and is the same on
    every machine and with every version of every library.
    """
    sizes = Counter(labels)
    seen: Counter[int] = Counter()
    ranks = {}
    hashes = [hashlib.sha256(key.encode()).digest() for key in keys]
    for index in sorted(range(len(keys)), key=lambda index: hashes[index]):
        label = labels[index]
        ranks[index] = ((seen[label] + 0.5) / sizes[label], label)
        seen[label] += 1
    return sorted(ranks, key=lambda index: ranks[index])


def is_test(fingerprint: str) -> bool:
    """Tell whether a picture belongs to the test set: a tenth of all fingerprints does."""
    return int(fingerprint[:16], 16) < TEST_SHARE * 2**64


def fingerprint(pixels: NDArray[np.uint8]) -> str:
    """Return a digest of a picture's size and colours, uint8 (H,W,3), hexadecimal.

    It depends neither on the file's name nor on its lossless format.
    """
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def folder(path: Path, split: str, reporter: Reporter, size: int | None = None) -> Parts:
    """Read pictures from one directory per class.

    `path/train` and `path/test` are the splits where both exist. Otherwise the content alone
    assigns each picture to the training set or, a tenth of them, to the test set: it stays there
    when it is renamed, stored losslessly in another format, or when others are added or removed.
    The pictures must have one size, unless their middle squares are resized to `size` pixels a
    side, which moves none to the other split; they are grey if all of them are, else RGB.
    """
    if not path.is_dir():
        fix = "put the pictures there, or write `folder:PATH` with an existing PATH"
        named, sign, _ = str(path).rpartition("@")
        if sign and Path(named).is_dir():
            fix = "write the side of the pictures in pixels, from 1 to 9999: `folder:PATH@64`"
        raise JeatError(f"`{path}` is not a directory", fix)
    divided = (path / "train").is_dir() and (path / "test").is_dir()
    read = _by_directory if divided else _by_content
    found = read(path, split, reporter, size)
    classes, listed, images, chosen = found.classes, found.listed, found.images, found.chosen
    if not chosen:
        raise JeatError(
            f"none of the {len(listed.files):,} pictures in `{path}` belongs to the {split} set, "
            "to which their contents assign them",
            "add pictures, or split them yourself into `train` and `test`, each with a directory "
            "per class",
        )
    labels = [listed.labels[index] for index in chosen]
    images.describe(listed.labels, reporter)
    kind = "training" if split == "train" else split
    reporter.say(
        f"`{path}`: {counted(len(labels), f'{kind} picture')} of "
        f"{counted(len(set(labels)), 'class')}"
        f"{describe_left_out(listed.left_out)}"
    )
    warn_of_absent(split, classes, labels, reporter)
    return images.tensor(chosen), torch.tensor(labels), classes


class _Decoded:
    """Pictures in memory, and the fingerprint of each as it is stored."""

    def __init__(
        self, files: Sequence[Path], grey: bool, reporter: Reporter, size: int | None
    ) -> None:
        self.fingerprints: list[str] = []
        self._size = size
        self._transparent = self._turned = self._resized = 0
        self._pixels: list[NDArray[np.uint8]] = []
        with reporter.track("reading pictures", len(files)) as bar:
            for file in files:
                pixels, transparent, turned = decode(file)
                self.fingerprints.append(fingerprint(pixels))
                self._transparent += transparent
                self._turned += turned
                if size is not None and pixels.shape[:2] != (size, size):
                    pixels = middle_square(pixels, size)
                    self._resized += 1
                self._pixels.append(np.ascontiguousarray(pixels[:, :, :1]) if grey else pixels)
                bar(1)

    def tensor(self, indices: Sequence[int]) -> Tensor:
        """Return some of them, uint8 (n, C, H, W)."""
        pixels = np.stack([self._pixels[index] for index in indices])
        check_scale(pixels, "the pictures")
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))

    def describe(self, labels: Sequence[int], reporter: Reporter) -> None:
        """Say how the pictures were read, and which of them have more than one label."""
        if self._resized:
            reporter.say(
                f"{counted(self._resized, 'picture')} resized to {self._size}x{self._size} "
                "(the middle square, bicubic)"
            )
        if self._transparent:
            reporter.say(
                f"{self._transparent:,} of all pictures have transparent parts, composed on white"
            )
        if self._turned:
            reporter.say(
                f"{self._turned:,} of all pictures have an EXIF orientation, which is ignored"
            )
        classes = Counter(key for key, _ in {*zip(self.fingerprints, labels, strict=True)})
        if twice := sum(count > 1 for count in classes.values()):
            reporter.warn(f"in more than one class: {counted(twice, 'picture')}")


@dataclass(frozen=True)
class _Read:
    """The pictures of a folder that were read, and which of them are in the split."""

    classes: tuple[str, ...]
    listed: _Split
    images: _Decoded
    chosen: list[int]


def _by_directory(path: Path, split: str, reporter: Reporter, size: int | None) -> _Read:
    """Read the split that has a directory of its own."""
    classes = _classes(path / "train")
    splits = {name: _listed(path / name, classes, name == "test") for name in ("train", "test")}
    listed = splits[split]
    # Both splits decide: a single colour picture in either makes the images of both RGB.
    grey = _is_grey([file for each in splits.values() for file in each.files], size)
    beside = Listing(path).left_out
    for name in splits:
        del beside[f"`{name}{os.sep}`"]
    listed.left_out.update(beside)
    chosen = deal([f"{file.parent.name}/{file.name}" for file in listed.files], listed.labels)
    return _Read(classes, listed, _Decoded(listed.files, grey, reporter, size), chosen)


def _by_content(path: Path, split: str, reporter: Reporter, size: int | None) -> _Read:
    """Read all pictures, each of which belongs to a split by its content."""
    classes = _classes(path)
    listed = _listed(path, classes)
    images = _Decoded(listed.files, _is_grey(listed.files, size), reporter, size)
    order = deal(images.fingerprints, listed.labels)
    chosen = [i for i in order if is_test(images.fingerprints[i]) == (split == "test")]
    return _Read(classes, listed, images, chosen)


def warn_of_absent(
    split: str, classes: Sequence[str], labels: Sequence[int], reporter: Reporter
) -> None:
    """Say which classes have no image in a split."""
    present = set(labels)
    absent = [name for label, name in enumerate(classes) if label not in present]
    if absent:
        reporter.warn(
            f"no {split} picture of {', '.join(f'`{name}`' for name in absent)}: "
            + ("their accuracy is not measured" if split == "test" else "they cannot be learned")
        )


def _directories(path: Path) -> list[str]:
    return sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] not in "._"
    )


def _classes(path: Path) -> tuple[str, ...]:
    names = _directories(path)
    for file in path.iterdir():
        for pattern, dataset in _PUBLISHED.items():
            if re.search(pattern, file.name):
                raise JeatError(
                    f"`{path}` holds `{file.name}`, a file of a published data set, not pictures",
                    f"use `--dataset {dataset}`, or the name of the one it belongs to, and "
                    "`--data-dir` for its location",
                )
    if len(names) < 2:
        existing = f"only `{names[0]}`" if names else "none"
        raise JeatError(
            f"`{path}` needs at least two directories, one per class, and has {existing}",
            "put the pictures of each class into a directory of its own, such as "
            f"`{path / 'cat'}` and `{path / 'dog'}`",
        )
    for name in names:
        if not name.strip():
            raise JeatError(
                f"a directory in `{path}` has a blank name, `{name}`", "rename it as its class"
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(name).decode(errors="backslashreplace")
            raise JeatError(
                f"the directory `{shown}` in `{path}` has a name that is not UTF-8",
                "rename it: class names must be UTF-8",
            ) from None
    return tuple(names)


def _listed(path: Path, classes: tuple[str, ...], may_lack: bool = False) -> _Split:
    """List the pictures of all classes below `path`, which `may_lack` some of them."""
    if strange := sorted(set(_directories(path)) - set(classes)):
        raise JeatError(
            f"`{path / strange[0]}` is not a class of the training pictures",
            f"the classes are {', '.join(classes)}",
        )
    split = _Split([], [], Counter())
    known = {f"`{name}{os.sep}`" for name in classes}
    split.left_out.update({k: n for k, n in Listing(path).left_out.items() if k not in known})
    for label, name in enumerate(classes):
        listing = Listing(path / name)
        if not listing.pictures and not may_lack:
            left_out = describe_left_out(listing.left_out)
            raise JeatError(
                f"class `{name}` has no picture directly in `{path / name}`{left_out}",
                f"put pictures there ({' '.join(ENDINGS)}) or remove the class; if there "
                "are splits, they are called `train` and `test`",
            )
        split.files.extend(listing.pictures)
        split.labels.extend([label] * len(listing.pictures))
        for kind, count in listing.left_out.items():
            inside = kind.endswith(f"{os.sep}`")
            split.left_out[f"`{name}{os.sep}{kind[1:]}" if inside else kind] += count
    if not split.files:
        raise JeatError(f"`{path}` holds no pictures", "put some there, one directory per class")
    return split


def _is_grey(files: Sequence[Path], resized: int | None) -> bool:
    """Return whether all pictures are grey, after checking by their headers that all fit."""
    greys, sizes = zip(*map(is_grey, files), strict=True)
    for file, (width, height) in zip(files, sizes, strict=True):
        if (width, height) != sizes[0] and resized is None:
            raise JeatError(
                f"pictures of different sizes: `{files[0]}` is {sizes[0][0]}x{sizes[0][1]}, "
                f"`{file}` is {width}x{height}",
                "choose a size to resize them to: `--dataset folder:PATH@64`",
            )
    return all(greys)
