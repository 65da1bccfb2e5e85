"""Entries of RobustBench: every network is built, and the accuracies are told in the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import written
from helpers.cli import done, here, refused

from jeatcli.checkpoints import robustbench
from jeatcli.checkpoints.robustbench import Published, entries, find
from jeatcli.core.models import build
from jeatcli.core.models.layers import Shape
from jeatcli.core.threat import Threat
from jeatcli.data.facts import DATASETS
from jeatcli.errors import UsageProblem

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_network_of_the_table_is_one_of_ours() -> None:
    for entry in entries():
        assert 0 <= entry.robust < entry.clean < 1
        facts = DATASETS[entry.dataset]
        if entry.arch is not None:
            with torch.device("meta"):
                build(entry.arch, Shape(facts.shape, len(facts.classes), "batch", entry.activation))
            assert all(len(part) in (1, 3) for part in entry.normalisation)


@pytest.mark.parametrize(
    ("dataset", "norm", "loaded", "count"),
    [("cifar10", "linf", 58, 76), ("cifar10", "l2", 17, 21), ("cifar100", "linf", 31, 38)],
)
def test_so_many_of_a_dictionary_load(dataset: str, norm: str, loaded: int, count: int) -> None:
    own = [each for each in entries() if (each.dataset, each.threat.norm) == (dataset, norm)]
    assert len(own) == len({each.name for each in own}) == count
    assert sum(each.arch is not None for each in own) >= loaded


def test_an_id_of_several_dictionaries() -> None:
    name = "robustbench:Wang2023Better_WRN-28-10"
    assert find(name, None, 10).threat == Threat("linf", 8 / 255)
    assert find(name, None, 100).dataset == "cifar100"
    assert find(name, "cifar100", None).dataset == "cifar100"
    second = find("robustbench:l2/Wang2023Better_WRN-28-10", None, None)
    assert second.threat == Threat("l2", 0.5)
    assert find("robustbench:Rony2019Decoupling", None, None).threat.norm == "l2"
    assert find("robustbench:Zhang2019Theoretically", None, 10).threat.eps == 0.031
    for bad, words in (
        (("robustbench:Wang2032Better", None, None), "unknown entry of RobustBench"),
        (("robustbench:Kang2021Stable", None, None), "not implemented here"),
        (("robustbench:Rony2019Decoupling", None, 100), "for something else"),
    ):
        with pytest.raises(UsageProblem, match=words):
            find(*bad)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a file of an entry that is as small as a test needs."""
    entry = Published("Own2026", "digits", Threat("l2", 0.3), "small", "half", 0.9, 0.5)
    monkeypatch.setattr(robustbench, "entries", lambda: (entry,))
    torch.manual_seed(0)
    net = build("small", Shape((1, 8, 8), 10))
    return written(tmp_path, {"state_dict": net.state_dict()})


def test_the_measured_accuracies_are_beside_the_published(small: Path) -> None:
    options = ("--arch", "robustbench:Own2026", "--device", "cpu", "-n", "20", "--steps", "1")
    found = json.loads(done("attack", small, *options, "--json"))
    assert (found["dataset"], found["norm"], found["eps"]) == ("digits", "l2", 0.3)
    known = found["published"]
    assert known["clean_above"] == pytest.approx(found["clean"] - 0.9)
    assert known["robust_above"] == pytest.approx(found["robust"] - 0.5)
    assert "low-clean-accuracy" in {flag["name"] for flag in found["warnings"]}
    text = done("attack", small, *options)
    assert "RobustBench's Own2026: clean 90.00 % (-" in text
    assert "under AutoAttack 50.00 % (-" in text
    other = json.loads(done("attack", small, *options, "--eps", "0.1", "--json"))
    assert other["published"]["robust_above"] is None


def test_what_the_entry_says_is_not_said_again(small: Path) -> None:
    options = ("--arch", "robustbench:Own2026", "--mean", "0", "--std", "1")
    refused(here("attack", small, *options), 2, "leave out `--mean`")
