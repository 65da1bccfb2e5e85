"""A folder of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.pictures import paint


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Return a folder of two classes of forty pictures, 5 high and 6 wide."""
    for k in range(40):
        paint(tmp_path / "zoo" / "cat" / f"{k}.png", (200, k, 0))
        paint(tmp_path / "zoo" / "dog" / f"{k}.png", (0, k, 200))
    return tmp_path / "zoo"
