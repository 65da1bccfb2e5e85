"""Numbers of things in words."""

from __future__ import annotations

import pytest

from jeatcli.runtime.devices import batches_of
from jeatcli.runtime.words import counted


@pytest.mark.parametrize(
    ("number", "thing", "words"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (2000, "test image", "2,000 test images"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
    ],
)
def test_one_thing_is_in_the_singular(number: int, thing: str, words: str) -> None:
    assert counted(number, thing) == words


def test_one_large_image_at_once() -> None:
    assert batches_of(1, (3, 900, 900)).startswith("1 image of 3x900x900 at once; ")
