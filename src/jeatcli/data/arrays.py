"""Labelled images in an `.npz` of your own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import JeatError, UsageProblem
from ..runtime.progress import SILENT, Reporter
from .checks import NUMBER_FROM_ZERO, first_label, indices, numbers, pixels
from .folder import Parts, warn_of_absent
from .pictures import to_uint8
from .stored import LABELS, PIXELS, archive, opened_npz

# Of floats that were bytes.
_ROUNDING = 1e-5
MOST_CLASSES = 100_000
_IGNORED = 255  # what marks an image without a class, in bytes


def npz(path: Path, split: str, reporter: Reporter = SILENT) -> Parts:
    """Read images and labels, (n, H, W, C) or (n, C, H, W), uint8 or in [0, 1].

    `image`, `images` or `arr_0` with `label`, `labels` or `arr_1` are all test images; with
    `train_` and `test_` before the names there are two splits. `classes` may hold their names.
    Images to train on are rounded to bytes, which all that is learned of them takes.

    Raises:
        JeatError: If it cannot be read, or holds something else.
        UsageProblem: If it has no training images, or images and labels do not fit together.
    """
    if not path.is_file():
        raise JeatError(
            f"there is no file `{path}`", "put it there, or write `npz:FILE` with an existing FILE"
        )
    fix = "it must be an `.npz` of plain arrays, as `numpy.savez` writes it"
    with opened_npz(path, fix) as opened:
        arrays = {name: np.asarray(opened[name]) for name in opened.files}
    found = _pair(arrays, f"{split}_") or (None if split == "train" else _pair(arrays, ""))
    if found is None:
        held = ", ".join(f"`{name}`" for name in arrays) or "nothing"
        if split == "train" and _pair(arrays, ""):
            raise UsageProblem(
                f"`{path}` has no training images, only images to test on",
                "store them as `train_images`, `train_labels`, `test_images` and `test_labels`",
            )
        raise JeatError(
            f"`{path}` holds {held}, not images and labels",
            "store `images`, uint8 (n, H, W, C), and `labels`, whole numbers from 0",
        )
    # The labels of all splits count the classes.
    pairs = [pair for prefix in ("", "train_", "test_") if (pair := _pair(arrays, prefix))]
    shapes = {"x".join(map(str, _planes(images, path).shape[1:])) for images, _ in pairs}
    if len(shapes) > 1:
        raise UsageProblem(
            f"the splits of `{path}` have images of {' and '.join(sorted(shapes))}",
            "give both the same size and channels",
        )
    labels = [_indices(own, len(images), path) for images, own in pairs]
    names = _names(arrays, labels, path)
    x, y = _images(found[0], path), _indices(found[1], len(found[0]), path)
    if split == "train" and x.is_floating_point():
        reporter.say(f"`{path}`: training images are rounded to 8 bits")
        x = torch.from_numpy(to_uint8(x))
    warn_of_absent(split, names, y.tolist(), reporter)
    return x, y, names


def _names(
    arrays: dict[str, NDArray[np.generic]], labels: Sequence[Tensor], path: Path
) -> tuple[str, ...]:
    """Return the names of the classes, their numbers if there are none."""
    if "classes" not in arrays:
        _refuse_ignored(labels, path)
    most = max(int(own.max()) for own in labels)
    if not 1 <= most < MOST_CLASSES:
        raise UsageProblem(
            f"the labels of `{path}` go up to {most:,}", "number two or more classes from 0"
        )
    texts = arrays["classes"].reshape(-1).tolist() if "classes" in arrays else []
    names = tuple(t.decode(errors="replace") if isinstance(t, bytes) else str(t) for t in texts)
    named = all(map(str.strip, names))  # else no file of a run could be read again
    if names and not (named and len(names) > most and len(set(names)) == len(names)):
        raise JeatError(
            f"`{path}` has the label {most}, and as classes {', '.join(names[:10])}",
            "give each class a name of its own",
        )
    return names or tuple(map(str, range(most + 1)))


def _pair(
    arrays: dict[str, NDArray[np.generic]], prefix: str
) -> tuple[NDArray[np.generic], NDArray[np.generic]] | None:
    for image, label in zip(PIXELS, LABELS, strict=True):
        if prefix + image in arrays and prefix + label in arrays:
            return arrays[prefix + image], arrays[prefix + label]
    return None


def _planes(array: NDArray[np.generic], path: Path) -> NDArray[np.generic]:
    """Return grey or RGB images with the channels first, (n, C, H, W)."""
    planes = array[..., None] if array.ndim == 3 else array
    if planes.ndim == 4 and planes.shape[3] in (1, 3):
        planes = planes.transpose(0, 3, 1, 2)
    if planes.ndim != 4 or not planes.size or planes.shape[1] not in (1, 3):
        raise UsageProblem(
            f"the images of `{path}` have the shape {'x'.join(map(str, array.shape))}",
            "give them as (n, H, W, C) or (n, C, H, W), grey or RGB",
        )
    return planes


def _images(array: NDArray[np.generic], path: Path) -> Tensor:
    where = f"the images of `{path}`"
    x = pixels(numbers(_planes(array, path), where), where)
    if x.dtype == torch.uint8:
        return x
    rounded = (255 * x).round()
    # Most floats were made of bytes; what was not is kept as it is.
    return rounded.byte() if ((rounded / 255 - x).abs() < _ROUNDING).all() else x


def _indices(array: NDArray[np.generic], count: int, path: Path) -> Tensor:
    where = f"the labels of `{path}`"
    y = numbers(array, where)
    return indices(y.squeeze(1) if y.ndim == 2 and y.shape[1] == 1 else y, count, None, where)


def _refuse_ignored(labels: Sequence[Tensor], path: Path) -> None:
    """Refuse the label 255 beside those of a few classes: it mostly marks images without one."""
    present = torch.cat([*labels]).unique()
    others = present[:-1]
    if (
        present[-1] != _IGNORED
        or len(others) == _IGNORED
        or not others.equal(torch.arange(len(others)))
    ):
        return
    own = next(own for own in labels if (own == _IGNORED).any())
    one = first_label(own, own == _IGNORED)
    raise UsageProblem(
        f"the labels of `{path}` go from 0 to {len(others) - 1}, but for {one}",
        f"{NUMBER_FROM_ZERO}; if it is one, name all in `classes`",
    )


def labelled_archive(
    path: Path, shape: tuple[int, int, int], classes: int
) -> tuple[Tensor, Tensor]:
    """Return the images (C,H,W) of an `.npz`, uint8 (n,C,H,W), and their labels, int64 (n,)."""
    x, labels, _, _ = archive(path, shape)
    where = f"the labels of `{path}`"
    y = indices(numbers(labels, where), len(x), classes, where)
    return torch.from_numpy(np.ascontiguousarray(x)), y
