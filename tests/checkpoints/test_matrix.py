"""Files in the layouts of public code: each loads as what it is, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.checkpoint_matrix import Row, tried
from helpers.checkpoint_more_rows import MORE
from helpers.checkpoint_rows import B20, JEM, JEMPP, R20, ROWS, W34
from helpers.foreign_networks import NETWORKS, of_timm

# Networks of a second or less; the others have the same layouts, and larger weights.
QUICK = {B20, JEM, JEMPP, R20, W34, "rb_dai2021", "kuangliu_lenet", "jem_energy", "weiai_resnet18"}
EVERY = {row.name: row for row in (*ROWS, *MORE)}


def check(row: Row, folder: Path) -> None:
    found = tried(row, folder)
    assert found.verdict == row.verdict or row.verdict in found.words, found


@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name].network in QUICK])
@pytest.mark.filterwarnings("ignore")
def test_a_small_network(name: str, tmp_path: Path) -> None:
    check(EVERY[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name].network not in QUICK])
@pytest.mark.filterwarnings("ignore")
def test_a_large_network(name: str, tmp_path: Path) -> None:
    make, _ = NETWORKS.get(EVERY[name].network, (None, None))
    if "timm" in name or getattr(make, "func", None) is of_timm:
        pytest.importorskip("timm")
    check(EVERY[name], tmp_path)


def test_names_are_unique() -> None:
    assert len(EVERY) == len(ROWS) + len(MORE)
