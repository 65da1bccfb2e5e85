"""Images as arrays: an `.npz` of your own, and the corrupted CIFARs (Hendrycks and Dietterich)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import JeatError, UsageProblem
from ..runtime.progress import SILENT, Reporter
from ..runtime.words import counted
from .facts import DATASETS, SEVERITIES, corruption
from .folder import Parts, warn_of_absent
from .pictures import to_uint8
from .stored import LABELS, PIXELS, archive, check_scale, opened_npz

# Of a normalisation that was taken back, and of floats that were bytes.
_ROUNDING = 1e-5
MOST_CLASSES = 100_000
_IGNORED = 255  # what marks an image without a class, in bytes
_NUMBER = "number the classes from 0, and leave out images without one"
_ONE = 10_000  # images of one corruption and severity
_PLACES = {
    "cifar10": ("CIFAR-10-C", "https://zenodo.org/records/2535967"),
    "cifar100": ("CIFAR-100-C", "https://zenodo.org/records/3555552"),
}


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
    one = _first(own, own == _IGNORED)
    raise UsageProblem(
        f"the labels of `{path}` go from 0 to {len(others) - 1}, but for {one}",
        f"{_NUMBER}; if it is one, name all in `classes`",
    )


def labelled_archive(
    path: Path, shape: tuple[int, int, int], classes: int
) -> tuple[Tensor, Tensor]:
    """Return the images (C,H,W) of an `.npz`, uint8 (n,C,H,W), and their labels, int64 (n,)."""
    x, labels, _, _ = archive(path, shape)
    where = f"the labels of `{path}`"
    y = indices(numbers(labels, where), len(x), classes, where)
    return torch.from_numpy(np.ascontiguousarray(x)), y


def corrupted(name: str, root: Path, limit: int | None = None) -> Parts:
    """Read `cifar10-c:CORRUPTION[:SEVERITY]` or `cifar100-c:` from the published arrays.

    An image comes under each corruption at each severity that the name stands for, one after the
    other, so that the first ones are a sample of all. With a `limit` hardly more are read.
    """
    clean, kinds, severities = corruption(name)
    each = -(-limit // (len(kinds) * len(severities))) if limit and limit > 0 else _ONE
    order = np.arange(SEVERITIES * _ONE).reshape(SEVERITIES, _ONE)[:, :each]
    columns = [(kind, order[severity - 1]) for kind in kinds for severity in severities]
    x = torch.empty((order.shape[1], len(columns), 3, 32, 32), dtype=torch.uint8)
    for place, (kind, rows) in enumerate(columns):
        part = _published(clean, kind, (SEVERITIES * _ONE, 32, 32, 3), root)[rows]
        x[:, place] = torch.from_numpy(part).permute(0, 3, 1, 2)
    labels = _published(clean, "labels", (SEVERITIES * _ONE,), root)
    y = np.stack([labels[rows] for _, rows in columns], 1).reshape(-1)
    classes = DATASETS[clean].classes
    return (
        x.flatten(0, 1),
        indices(torch.from_numpy(y), len(y), len(classes), f"labels of {name}"),
        classes,
    )


def _published(clean: str, kind: str, shape: tuple[int, ...], root: Path) -> NDArray[Any]:
    """Map one of the published arrays into memory."""
    folder, address = _PLACES[clean]
    path = root / folder / f"{kind}.npy"
    if not path.is_file():
        raise JeatError(
            f"`{path}` is missing",
            f"download {folder}.tar from {address} and unpack it in `{root}`; `--data-dir` "
            "or `JEAT_DATA_DIR` names another folder of data sets",
        )
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as problem:
        raise JeatError(f"cannot read `{path}`: {problem}", "download it again") from problem
    if array.shape != shape or (array.ndim == 4 and array.dtype != np.uint8):
        raise JeatError(
            f"`{path}` holds {array.dtype} {array.shape}, not {shape}", "download it again"
        )
    return array


def numbers(values: object, where: str) -> Tensor:
    """Return numbers of the caller's as a tensor on the CPU, whatever they are stored as."""
    kind = getattr(values, "dtype", type(values).__name__)
    if np.ma.is_masked(values):  # what is under the mask would be taken for data
        raise UsageProblem(f"{where} have masked values", "fill them, or leave these images out")
    try:
        if isinstance(values, np.ndarray):
            # Neither another byte order nor negative strides nor read-only memory is for torch.
            values = np.require(values, values.dtype.newbyteorder("="), ["C", "W", "E"])
        given = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise UsageProblem(
            f"{where} cannot be read as numbers ({kind})", "give a tensor or an array of numbers"
        ) from None
    if given.is_nested or given.layout != torch.strided:
        kind = "nested" if given.is_nested else str(given.layout).removeprefix("torch.")
        raise UsageProblem(f"{where} are a tensor of the layout {kind}", "give a dense tensor")
    return given


def pixels(x: Tensor, where: str = "the images") -> Tensor:
    """Return images as a data set has them, uint8 or float32 in [0, 1]; refuse any others."""
    shape = "x".join(map(str, x.shape))
    if x.ndim and not len(x):
        raise UsageProblem(f"there are no images: {where} have the shape {shape}", "give some")
    if x.ndim != 4 or not x.numel():
        raise UsageProblem(f"{where} have the shape {shape}", "give them as (n, C, H, W)")
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise UsageProblem(
            f"{where} have the shape {shape}, with the channels last",
            "move them: `images.transpose(0, 3, 1, 2)`, or `permute` for tensors",
        )
    if x.dtype == torch.uint8:
        check_scale(x.numpy(), where)
        return x
    if not x.is_floating_point():
        raise UsageProblem(f"{where} are {x.dtype}", "give uint8, or floats in [0, 1]")
    x = x.float()  # of 8-bit floats torch finds no minimum
    low, high = x.min().item(), x.max().item()
    if math.isnan(low):
        raise UsageProblem(f"{where} have pixels that are NaN", "leave these images out")
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise UsageProblem(
            f"{where} have pixels from {low:g} to {high:g}, not in [0, 1]",
            "divide pixels 0..255 by 255; undo a normalisation, and give it as mean and std",
        )
    if 0 < high <= 1 / 255:
        raise UsageProblem(
            f"no pixel of {where} is above {high:.2g}: they are black",
            "divide pixels 0..255 by 255 once",
        )
    return x.clamp(0, 1)


def indices(y: Tensor, count: int, classes: int | None, where: str = "the labels") -> Tensor:
    """Return labels as a data set has them, int64 (count,); refuse what are no indices of classes.

    `classes` is their number, None where it is not known.
    """
    if y.shape != (count,):
        shape = "x".join(map(str, y.shape))
        raise UsageProblem(
            f"{where} have the shape {shape} for {counted(count, 'image')}",
            "give one for each image",
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UsageProblem(f"{where} are {y.dtype}", "give whole numbers from 0")
    y = y.long()  # torch finds no minimum of some unsigned types
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes is not None and high >= classes):
        there = "" if classes is None else f", but there are {classes} classes"
        none = (y < 0) | (y > high if classes is None else y >= classes)
        raise UsageProblem(
            f"{where} go from {low} to {high}{there}; {_first(y, none)} is the first that is none",
            _NUMBER,
        )
    return y


def _first(y: Tensor, chosen: Tensor) -> str:
    """Name the first label of those that are chosen (n,), and its place."""
    place = int(chosen.nonzero()[0])
    return f"{int(y[place])} at index {place}"
