"""Images that some program wrote, as `score` reads them: a folder of pictures or an .npz."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import JeatError, UsageProblem
from ..runtime.progress import SILENT, Reporter
from .folder import SUFFIXES
from .provenance import TEXT, Provenance, of_archive, of_pictures

_LOSSY = {".jpg", ".jpeg", ".webp"}
_MODES = {1: "L", 3: "RGB"}


def holds_pictures(path: Path) -> bool:
    """Tell whether `path` is a folder with pictures in it."""
    return path.is_dir() and any(each.suffix.lower() in SUFFIXES for each in path.iterdir())


def read(
    path: Path, shape: tuple[int, int, int], num: int | None = None, reporter: Reporter = SILENT
) -> tuple[Tensor, Provenance]:
    """Read a folder of pictures, in the order of their names, or an `.npz`, as it is stored.

    Nothing is resized or converted: a score of other pixels would be another score.

    Args:
        path: The folder or the file.
        shape: Channels, height and width that the images must have.
        num: Take the first so many; all without it.

    Returns:
        Pixels 0..255, uint8 (n,C,H,W), and what the files say of their making.

    Raises:
        JeatError: If an image cannot be read or has another shape.
        UsageProblem: If there are fewer than `num`.
    """
    if path.suffix.lower() == ".npz":
        pixels, known = _npz(path, shape, num)
    else:
        pixels, known = _folder(path, shape, num, reporter)
    return torch.from_numpy(pixels), known


def _enough(path: Path, there: int, num: int | None) -> None:
    if num is not None and num > there:
        raise UsageProblem(
            f"{num:,} images asked of `{path}`, which has {there:,}",
            f"choose a number up to {there:,}",
        )


def _folder(
    path: Path, shape: tuple[int, int, int], num: int | None, reporter: Reporter
) -> tuple[NDArray[np.uint8], Provenance]:
    files = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
    if not files:
        raise JeatError(
            f"`{path}` holds no pictures",
            f"put the images themselves there, as {', '.join(sorted(SUFFIXES))}",
        )
    _enough(path, len(files), num)
    files = files[:num]
    if lossy := any(each.suffix.lower() in _LOSSY for each in files):
        reporter.warn(f"`{path}` holds lossy pictures (JPEG, WebP), which changes every score")
    # Their texts last: a file that is none has been refused by then.
    pixels = np.stack([picture(each, shape) for each in files])
    return pixels, of_pictures(map(_text, files), lossy)


def _text(path: Path) -> str | None:
    with Image.open(path) as image:
        found = image.info.get(TEXT)
    return found if isinstance(found, str) else None


def picture(
    path: Path, shape: tuple[int, int, int], needed: str = "the reference images"
) -> NDArray[np.uint8]:
    """Read one picture as it is stored, uint8 (C,H,W).

    Args:
        path: The file.
        shape: Channels, height and width that it must have.
        needed: Whose shape that is.

    Raises:
        JeatError: If it cannot be read or has another shape.
    """
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            mode, size = image.mode, image.size
            if (mode, size) == (_MODES.get(channels), (width, height)):
                return (
                    np.array(image, dtype=np.uint8)
                    .reshape(height, width, channels)
                    .transpose(2, 0, 1)
                )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise JeatError(f"cannot read the picture `{path}`: {problem}", "write it anew") from None
    raise JeatError(
        f"`{path}` is {size[0]}x{size[1]} in mode {mode}, but {needed} are "
        f"{width}x{height} in mode {_MODES.get(channels)}",
        "convert the picture yourself, or name another data set or run",
    )


def light_pixels(path: Path) -> NDArray[np.bool_]:
    """Return which pixels of a picture are lighter than the middle grey, (H, W).

    Raises:
        JeatError: If it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("L")) > 127
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise JeatError(f"cannot read the mask `{path}`: {problem}", "write it anew") from None


def _npz(
    path: Path, shape: tuple[int, int, int], num: int | None
) -> tuple[NDArray[np.uint8], Provenance]:
    try:
        # Of any other file numpy believes that it is a pickle, and says how to open it.
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz archive, or cut short")
        with np.load(path, allow_pickle=False) as arrays:
            pixels = arrays["arr_0"]
            text = str(arrays[TEXT]) if TEXT in arrays else None
            labels = arrays["arr_1"].tolist() if "arr_1" in arrays else []
    except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as problem:
        raise JeatError(
            f"cannot read images from `{path}`: {problem}",
            "it must hold `arr_0`, uint8 (n,H,W,C), as improved-diffusion and "
            "`jeat sample --format npz` write it",
        ) from None
    channels, height, width = shape
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (height, width, channels):
        raise JeatError(
            f"`{path}` holds {pixels.dtype} {pixels.shape}, "
            f"not uint8 (n, {height}, {width}, {channels}), the reference's shape",
            "score images of the reference's size and channels, or name another `--dataset`",
        )
    _enough(path, len(pixels), num)
    known = of_archive(text, labels, num) if len(labels) == len(pixels) else Provenance()
    return np.ascontiguousarray(pixels[:num].transpose(0, 3, 1, 2)), known
