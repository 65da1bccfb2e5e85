"""The digits inside the package."""

import gzip
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray

from .facts import NUMERALS, Request
from .folder import Parts, deal

DIGITS_TRAIN = 1400


def digits(request: Request) -> Parts:
    """Read the 8x8 digits of the package: 1,400 images to train, 397 to test (NOTICE).

    The split is fixed: a hash of each row's number orders the images of each class, the
    classes are dealt out in proportion, and the last 397 are the test images. So the
    writers, whom the published file does not name, are mixed over both.
    """
    pixels, labels, order = _table()
    chosen = order[:DIGITS_TRAIN] if request.split == "train" else order[DIGITS_TRAIN:]
    return torch.from_numpy(pixels[chosen]), torch.from_numpy(labels[chosen]), NUMERALS


@cache
def _table() -> tuple[NDArray[np.uint8], NDArray[np.int64], list[int]]:
    """Return all pixels (1797, 1, 8, 8) and labels (1797), and their order, read once."""
    packed = (files(__package__) / "assets" / "digits.csv.gz").read_bytes()
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), np.int64, delimiter=",")
    pixels = np.floor(table[:, :64] * 255 / 16 + 0.5).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, 64]
    return pixels, labels, deal([str(row) for row in range(len(table))], labels.tolist())
