"""The digits inside the package: the published pixels, a fixed split, the attribution."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

import jeatcli
from jeatcli.data.folder import deal
from jeatcli.data.images import load_images


def digits_table(shared: Path) -> dict[bytes, int]:
    with gzip.open(shared / "digits.csv.gz", "rt") as file:
        rows = [[int(value) for value in line.split(",")] for line in file]
    return {bytes((v * 255 * 2 + 16) // 32 for v in row[:64]): row[64] for row in rows}


def test_digits_are_the_published_ones(shared: Path) -> None:
    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert (len(train), len(test)) == (1400, 397)
    assert train.shape == (1, 8, 8)
    assert train.classes == tuple("0123456789")
    assert train.x.dtype == torch.uint8
    assert train.y.dtype == torch.int64
    known = digits_table(shared)
    seen = {
        bytes(x.flatten().tolist()): int(y)
        for images in (train, test)
        for x, y in zip(images.x, images.y, strict=True)
    }
    assert seen == known
    assert len(seen) == 1797
    assert sorted({*train.x.unique().tolist()}) == sorted(
        {int(v * 255 / 16 + 0.5) for v in range(17)}
    )


def test_digits_split_is_fixed_and_balanced() -> None:
    train, test = load_images("digits", "train"), load_images("digits", "test")
    for images in (train, test):
        share = images.y.bincount() / len(images)
        assert (share - 0.1).abs().max() < 0.005
    assert train.first(100).y.bincount().min() >= 9
    # A change of the split would put images of published runs' training sets into the test set.
    assert checksum(train.x) == "7752fb536e3c6f7007dc134f00bb38e2"
    assert checksum(test.x) == "a06e63bc96e7cc209e7960248a1c2176"


def test_who_changes_the_digits_changes_them_for_himself_alone() -> None:
    """They are read once in a process."""
    for split in ("train", "test"):
        first = load_images("digits", split)
        first.x.fill_(0)
        first.y.fill_(0)
        again = load_images("digits", split)
        assert again.x.any()
        assert again.y.any()


def checksum(x: Tensor) -> str:
    return hashlib.md5(x.numpy().tobytes()).hexdigest()


def test_dealing_keeps_proportions() -> None:
    labels = [0] * 30 + [1] * 10
    order = deal([str(i) for i in range(40)], labels)
    assert sorted(order) == list(range(40))
    assert order != sorted(order)
    for n in (8, 20, 36):
        assert sum(labels[i] for i in order[:n]) == pytest.approx(n / 4, abs=1)


def test_the_attribution_travels_with_the_digits() -> None:
    notice = Path(jeatcli.__file__).parent / "data" / "assets" / "NOTICE"
    for part in ("Alpaydin", "Kaynak", "CC BY 4.0", "digits.csv.gz"):
        assert part in notice.read_text(encoding="utf-8")
