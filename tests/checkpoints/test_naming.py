"""Models beside each other have names that tell them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from jeatcli.checkpoints.runs import distinct_names, shortened


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/one/model.safetensors", "a/two/model.safetensors"], ["one", "two"]),
        (["a/one/model.safetensors", "b/one/model.safetensors"], ["a/one", "b/one"]),
        (["a/x/one/m.pt", "b/x/one/m.pt", "c/two/m.pt"], ["a/x/one", "b/x/one", "two"]),
        (["a/one/model.safetensors", "a/one/model.safetensors"], ["one", "one"]),
    ],
)
def test_equal_names_are_led_by_directories(paths: list[str], expected: list[str]) -> None:
    names = [Path(path).parent.name for path in paths]
    assert distinct_names(names, [Path(path) for path in paths]) == expected


def test_files_of_one_name() -> None:
    files = [Path("at/last.pt"), Path("jeat/last.pt")]
    assert distinct_names(["last", "last"], files) == ["at/last", "jeat/last"]
    beside = [Path("at/last.pt"), Path("at/last.pth")]
    assert distinct_names(["last", "last"], beside) == ["last.pt", "last.pth"]
    best = [Path(f"{place}/run/best.safetensors") for place in "ab"]
    assert distinct_names(["run/best", "run/best"], best) == ["a/run/best", "b/run/best"]


def test_long_names_keep_their_ends() -> None:
    names = [f"digits-jeat-wrn-28-10-seed-{seed}" for seed in (1, 2)]
    cut = shortened(["at", *names], 24)
    assert cut == ["at", "digits-jeat…28-10-seed-1", "digits-jeat…28-10-seed-2"]
    alike = [f"digits-jeat-wrn-{depth}-10-seed-one" for depth in (16, 28)]
    assert shortened(alike, 16) == alike
