"""Images that lie on disk: pictures in a directory, or arrays in an `.npz`."""

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import JeatError, UsageProblem
from ..runtime.files import write_atomic
from ..runtime.progress import SILENT, Reporter
from .pictures import ENDINGS, Pixels, embedded_text, read_exact, to_uint8
from .provenance import CLASSES, TEXT, Provenance, image_numbers, of_archive, of_pictures

_LOSSY = (".jpg", ".jpeg", ".webp")
# How archives call images and their labels.
PIXELS, LABELS = ("image", "images", "arr_0"), ("label", "labels", "arr_1")


class Listing:
    """The pictures directly in a directory, if there is one, by name, and what else is there.

    Hidden files, such as the `._x.png` of macOS, count as absent.
    """

    def __init__(self, folder: Path) -> None:
        self.pictures: list[Path] = []
        # The number of other files by ending, and of pictures by subdirectory.
        self.left_out: Counter[str] = Counter()
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inside = sum(is_picture(path) for path in entry.rglob("*"))
                self.left_out[f"`{entry.name}{os.sep}`"] += inside
            elif is_picture(entry):
                self.pictures.append(entry)
            else:
                self.left_out[f"`{entry.suffix}`" if entry.suffix else "without an ending"] += 1


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Say what was not read: `; left out: 10 in `more/`, 3 `.txt``, or nothing."""
    parts = [
        f"{count:,} in {name}" if name.endswith(f"{os.sep}`") else f"{count:,} {name}"
        for name, count in sorted(left_out.items())
        if count
    ]
    return f"; left out: {', '.join(parts)}" if parts else ""


def is_picture(path: Path) -> bool:
    """Tell whether a file's name is that of a picture, hidden ones aside."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def holds_pictures(path: Path) -> bool:
    """Tell whether `path` is a directory with pictures in it or in a directory below it."""
    listing = Listing(path)
    return bool(listing.pictures) or any(
        count for name, count in listing.left_out.items() if name.endswith(f"{os.sep}`")
    )


def read_images(
    path: Path,
    shape: tuple[int, int, int],
    num: int | None = None,
    reporter: Reporter = SILENT,
    *,
    most: int | None = None,
) -> tuple[NDArray[np.uint8], Provenance]:
    """Read a directory of pictures or an `.npz`: uint8 (n,C,H,W), and the provenance.

    Nothing is resized or converted, as that would change scores: all images must have `shape`,
    (C,H,W). Pictures of one drawing of `jeat sample` come in the order in which they were drawn,
    others in that of a digest of their pixels: a score does not depend on the files' names.
    `num` takes the first ones, which must be there, and `most` so many or all there are.
    """
    if path.suffix.lower() != ".npz":
        return _directory(path, shape, num, most, reporter)
    pixels, labels, names, text = archive(path, shape)
    num = _number(path, len(pixels), num, most)
    labelled = labels.shape == (len(pixels),) and labels.dtype.kind in "iu"
    known = of_archive(text, labels.tolist(), num, names) if labelled else Provenance()
    if labelled:
        warn_of_sorted(str(path), labels, labels[:num], reporter)
    return np.ascontiguousarray(pixels[:num]), known


def warn_of_sorted(
    name: str, labels: NDArray[np.generic], first: NDArray[np.generic], reporter: Reporter
) -> None:
    """Warn if images are in the order of their classes, and some are not among the first.

    `first` are the labels of these. Shuffled images change their class at most steps.
    """
    classes, present = np.unique(labels), np.unique(first)
    parts = 1 + np.count_nonzero(labels[1:] != labels[:-1])
    if len(present) < len(classes) and parts <= 2 * len(classes) < len(labels) / 2:
        reporter.warn(
            f"the images of `{name}` are in the order of their classes, and the first "
            f"{len(first):,} are of {len(present)} of {len(classes)} classes: store them shuffled"
        )


def check_scale(pixels: NDArray[np.uint8], where: str) -> None:
    """Refuse bytes that are 0 and 1, which would be taken for black."""
    if pixels.max() == 1:
        raise UsageProblem(f"{where} are uint8 from 0 to 1", "multiply them by 255")


def check_number(name: object, there: int, num: int | None) -> None:
    """Refuse to take more images than there are, or none."""
    if num is not None and not 1 <= num <= there:
        raise UsageProblem(
            f"{num:,} images requested from `{name}`, which has {there:,}",
            f"choose a number from 1 to {there:,}",
        )


def _number(path: Path, there: int, num: int | None, most: int | None) -> int | None:
    if most is not None:
        return min(most, there)
    check_number(path, there, num)
    return num


def _directory(
    path: Path, shape: tuple[int, int, int], num: int | None, most: int | None, reporter: Reporter
) -> tuple[NDArray[np.uint8], Provenance]:
    listing = Listing(path)
    left_out = describe_left_out(listing.left_out)
    if not listing.pictures:
        raise JeatError(
            f"`{path}` itself holds no pictures{left_out}",
            f"name a directory with the images directly in it, as {', '.join(ENDINGS)}",
        )
    num = _number(path, len(listing.pictures), num, most)
    images = [read_exact(file, shape) for file in listing.pictures]
    texts = [(embedded_text(file) or {}).get(TEXT) for file in listing.pictures]
    numbers = image_numbers(texts)
    keys: list[Any] = numbers or [hashlib.sha256(image.tobytes()).digest() for image in images]
    order = sorted(range(len(images)), key=lambda index: keys[index])[:num]
    if left_out or len(order) < len(images):
        reporter.say(f"`{path}`: {len(order):,} of {len(images):,} pictures{left_out}")
    if lossy := any(listing.pictures[index].suffix.lower() in _LOSSY for index in order):
        reporter.warn(f"`{path}` holds lossy pictures (JPEG, WebP), which changes every score")
    pixels = np.stack([images[index] for index in order])
    check_scale(pixels, f"the pictures in `{path}`")
    return pixels, of_pictures([texts[index] for index in order], lossy)


@contextmanager
def opened_npz(path: Path, fix: str) -> Iterator[Any]:
    """Open an `.npz`; what numpy raises, now or when it reads an array, becomes a JeatError."""
    try:
        if not path.exists():
            raise FileNotFoundError("there is no such file")
        # numpy takes any other file for a pickle, and advises to open it as one.
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not an .npz archive, or is cut short")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except Exception as problem:  # encrypted, of an unknown compression, without a header, ...
        raise JeatError(f"cannot read images from `{path}`: {problem}", fix) from problem


def archive(
    path: Path, shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[Any], tuple[str, ...], str | None]:
    """Return pixels (n,C,H,W), labels, names of the classes and our text in an archive.

    What it does not have is empty or, of the text, None.
    """
    fix = (
        "it must hold `arr_0`, uint8 (n,H,W,C), as improved-diffusion and "
        "`jeat sample --format npz` write it, or `image` or `images`"
    )
    with opened_npz(path, fix) as arrays:
        pairs = [pair for pair in zip(PIXELS, LABELS, strict=True) if pair[0] in arrays]
        names = pairs[0] if pairs else ("arr_0", "arr_1")
        pixels = np.asarray(arrays[names[0]])
        text = str(arrays[TEXT]) if TEXT in arrays else None
        labels = np.asarray(arrays[names[1]] if names[1] in arrays else np.zeros(0, np.int64))
        classes = arrays[CLASSES].reshape(-1).tolist() if CLASSES in arrays else ()
    channels, height, width = shape
    if pixels.ndim and not len(pixels):
        raise JeatError(f"`{path}` holds no images", "name another file or folder")
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (height, width, channels):
        raise JeatError(
            f"`{path}` holds {pixels.dtype} {pixels.shape}, "
            f"not uint8 (n, {height}, {width}, {channels}), as the data set does",
            "take images of its size and channels, or name another `--dataset`",
        )
    check_scale(pixels, f"the images of `{path}`")
    return pixels.transpose(0, 3, 1, 2), labels, tuple(map(str, classes)), text


def save_npz(
    images: Pixels, labels: Pixels, path: Path, more: Mapping[str, Any] | None = None
) -> Path:
    """Write (n,C,H,W) images in [0, 1] and labels (n,) in the layout of improved-diffusion.

    `arr_0` holds the pixels, uint8 (n,H,W,C), `arr_1` the labels, and each key of `more` a text or
    another array.
    """
    pixels = to_uint8(images).transpose(0, 2, 3, 1)
    classes = labels if isinstance(labels, np.ndarray) else labels.cpu().numpy()
    return write_npz(path, {"arr_0": pixels, "arr_1": classes, **(more or {})})


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write arrays and texts by name as a compressed `.npz`, whole or not at all."""

    def write(beside: Path) -> None:
        with beside.open("wb") as handle:
            np.savez_compressed(handle, **arrays)

    return write_atomic(path, write)
