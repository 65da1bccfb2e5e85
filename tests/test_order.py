"""Long files of tests begin first where several processes share them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from helpers.order import LONG, longest_first


def test_long_files_are_first_and_a_file_stays_together() -> None:
    names = ["a.py::1", "b.py::2", "b.py::1", f"{LONG[1]}::1", "c.py::1", f"{LONG[0]}::1"]
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    longest_first(items)
    expected = [f"{LONG[0]}::1", f"{LONG[1]}::1", "b.py::2", "b.py::1", "a.py::1", "c.py::1"]
    assert [item.nodeid for item in items] == expected


def test_the_long_files_are_there() -> None:
    assert all((Path(__file__).parents[1] / name).is_file() for name in LONG)
