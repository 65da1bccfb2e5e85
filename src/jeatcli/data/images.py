"""Labelled images in memory: a whole data set is one uint8 tensor on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..errors import JeatError, UsageProblem
from ..runtime import files
from ..runtime.digests import tensor_digest
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Reporter
from .arrays import npz
from .contract import called
from .corrupted import corrupted
from .facts import DATASETS, TENSORS, Request, dataset_facts, image_size, own_path
from .folder import fingerprint, folder
from .pictures import to_uint8
from .stored import check_number, is_picture, read_images, warn_of_sorted


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in memory."""

    name: str  # of the data set
    x: Tensor  # pixels 0..255, uint8 (n, C, H, W), or in [0, 1], float32
    y: Tensor  # class indices, int64 (n,)
    classes: tuple[str, ...]  # names by index

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def digest(self) -> str:
        """A digest of the images and labels, 16 hexadecimal digits."""
        return tensor_digest(self.x, self.y)

    @cached_property
    def fingerprints(self) -> Tensor:
        """A number for the content of each image, rounded to bytes, int64 (n,)."""
        return fingerprints(self.x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.x.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> Images:
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def take(self, index: Tensor) -> Images:
        return replace(self, x=self.x[index], y=self.y[index])

    def first(self, n: int, reporter: Reporter | None = None) -> Images:
        """Return the first `n` images; warn the reporter if they miss classes by their order."""
        check_number(self.name, len(self), n)
        if reporter:
            labels = self.y.cpu().numpy()
            warn_of_sorted(self.name, labels, labels[:n], reporter)
        return replace(self, x=self.x[:n], y=self.y[:n])


def fingerprints(x: Tensor) -> Tensor:
    """Return a number for the content of each image of x (n, C, H, W), rounded to bytes, (n,)."""
    _, _, height, width = x.shape
    pixels = torch.from_numpy(to_uint8(x))
    colours = pixels.expand(-1, 3, height, width).permute(0, 2, 3, 1).numpy()
    digests = [int(fingerprint(pixels)[:15], 16) for pixels in colours]
    return torch.tensor(digests, dtype=torch.int64)


def warn_of_shared(name: str, others: Tensor, own: Tensor, reporter: Reporter) -> None:
    """Warn of `others` (m, C, H, W), to be told from `own` (n, C, H, W), that are among them."""
    if count := int(torch.isin(fingerprints(others), fingerprints(own)).sum()):
        reporter.warn(
            f"{count:,} of the {len(others):,} images of `{name}` are among the test images: these "
            "cannot be told apart"
        )


def hold_out(images: Images, count: int) -> tuple[Images, Images]:
    """Split off `count` random images; return the rest and them, each in the order of the set.

    They are the same for every seed, so that runs can be compared on them.
    """
    if count >= len(images):
        raise UsageProblem(
            f"{count:,} images are to be held out of `{images.name}`, which has {len(images):,}",
            "lower `--val-split`",
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    held, rest = order[:count].sort().values, order[count:].sort().values
    return images.take(rest), images.take(held)


def load_images(
    name: str,
    split: Literal["train", "test"],
    *,
    data_dir: Path | str | None = None,
    limit: int | None = None,
    download: bool = True,
    reporter: Reporter = SILENT,
) -> Images:
    """Read one split of a data set, the first `limit` images of it.

    `name` is a key of `facts.DATASETS`, or one of `OWN`. The published ones lie in `data_dir`, by
    default `JEAT_DATA_DIR` or the cache, and are downloaded at first use.
    """
    dataset_facts(name)
    if name == TENSORS:
        raise UsageProblem(
            "the network was wrapped without a data set, so it has no images",
            "give `images` and `labels`, or wrap it with `dataset=`",
        )
    root = files.data_dir(data_dir)
    images = current().main_first(lambda: _read(name, split, root, download, reporter, limit))
    return images if limit is None else images.first(limit)


def unlabelled(
    name: str,
    shape: tuple[int, int, int],
    *,
    data_dir: Path | str | None = None,
    reporter: Reporter = SILENT,
) -> Tensor:
    """Read images of a shape (C, H, W) whose classes do not matter, uint8 (n, C, H, W).

    They are the training images of a data set, or the pictures in `folder:PATH`, directly there or
    by class, or all of `npz:FILE`.
    """
    path = files.expand(own_path(name) or "")
    pictures = name.startswith("folder:") and image_size(name) is None
    flat = pictures and path.is_dir() and any(map(is_picture, path.iterdir()))
    if flat or name.startswith("npz:"):
        return torch.from_numpy(read_images(path, shape)[0])
    images = load_images(name, "train", data_dir=data_dir, reporter=reporter)
    if images.shape != shape:
        ours, theirs = ("x".join(map(str, each)) for each in (shape, images.shape))
        raise UsageProblem(
            f"the images of {name} are {theirs}, not {ours}", f"name a data set of {ours} images"
        )
    return images.x


def _read(
    name: str,
    split: Literal["train", "test"],
    root: Path,
    download: bool,
    reporter: Reporter,
    limit: int | None = None,
) -> Images:
    """Read a split; of corrupted images, of which there are many, only as many as are asked for."""
    try:
        if name.startswith("folder:"):
            path = files.expand(own_path(name) or "")
            return Images(name, *folder(path, split, reporter, image_size(name)))
        if name.startswith("npz:"):
            return Images(name, *npz(files.expand(name.removeprefix("npz:")), split, reporter))
        if "-c:" in name:
            if split == "train":
                raise UsageProblem(f"{name} is for tests alone", "train on the clean data set")
            return Images(name, *corrupted(name, root, limit))
        facts, request = DATASETS[name], Request(name, split, root, download, reporter)
        if facts.target.startswith("jeatcli."):  # whose files are verified by their digests
            return Images(name, *facts.load()(request))
        return Images(name, *called(name, facts, request))
    except OSError as problem:
        raise JeatError(
            f"cannot read `{problem.filename or name}`: {problem.strerror or problem}",
            "check its permissions, or name another folder with `--data-dir`",
        ) from problem


def batches(images: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images in order, float32 in [0, 1], and their labels."""
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        yield to_unit_range(images.x[part]), images.y[part]


def to_unit_range(pixels: Tensor) -> Tensor:
    """Turn pixels 0..255 into float32 in [0, 1], the same to the bit on any device.

    Images of the caller's own may be floats in [0, 1] already.
    """
    if pixels.is_floating_point():
        return pixels
    # By a Python number CUDA would multiply by 1/255, which rounds differently.
    return pixels.float() / torch.full((), 255.0, device=pixels.device)
