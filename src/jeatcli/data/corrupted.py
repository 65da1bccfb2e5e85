"""CIFAR-10-C and CIFAR-100-C: test images under published corruptions.

Hendrycks and Dietterich (2019) have fifteen kinds, and four for choosing settings.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import JeatError
from .checks import indices
from .facts import DATASETS, SEVERITIES, corruption
from .folder import Parts

_ONE = 10_000  # images of one corruption and severity
_PLACES = {
    "cifar10": ("CIFAR-10-C", "https://zenodo.org/records/2535967"),
    "cifar100": ("CIFAR-100-C", "https://zenodo.org/records/3555552"),
}


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
