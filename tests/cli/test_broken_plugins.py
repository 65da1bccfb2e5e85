"""Plugins that break their contract: each is named with what is wrong, and none is `internal`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import QUICK, done, here, refused
from helpers.runs import save_run

from jeatcli.core.models import ARCHITECTURES
from jeatcli.data.facts import DATASETS
from jeatcli.errors import JeatError
from jeatcli.methods import METHODS
from jeatcli.robustness.attacks import ATTACKS
from jeatcli.scoring.contract import checked_metric
from jeatcli.scoring.intervals import Estimate, intervals_of
from jeatcli.scoring.settings import METRICS

ATTACK = """
from jeatcli.robustness.attacks import ATTACKS, AttackEntry

ATTACKS.add("odd", AttackEntry("Odd", "odd:f", OPTIONS))


def f(ARGUMENTS):
    return RESULT
"""
METHOD = """
from dataclasses import dataclass

import torch
from jeatcli.catalogue import Entry
from jeatcli.core.jeat import AdversarialExamples
from jeatcli.methods import METHODS

METHODS.add("odd", Entry("Odd", "odd:Odd"))


@dataclass
class Odd(AdversarialExamples):
    def NAME(ARGUMENTS):
        return self.RESULT, {}
"""
NETWORK = """
from jeatcli.core.models import ARCHITECTURES, Architecture
from jeatcli.core.models.classifier import Network
from torch import nn

ARCHITECTURES.add("odd", Architecture("Odd", "odd:Odd"))


class Odd(Network):
    def __init__(ARGUMENTS):
        super().__init__()
        self.out = nn.Linear(64, 10)

    def NAME(self, x):
        return self.RESULT

    def head(self, features):
        return self.out(features)
"""
METRIC = """
from jeatcli.catalogue import Entry
from jeatcli.scoring.settings import METRICS

METRICS.add("odd", Entry("Odd", "odd:f"))


def f(ARGUMENTS):
    return RESULT
"""
DATA = """
import torch
from jeatcli.data.facts import DATASETS, DatasetFacts

about = ((1, 8, 8), ("a", "b"), (0.3,), (0.3,), {"linf": 0.1, "l2": 0.5}, "none", {"arch": "small"})
DATASETS.add("odd", DatasetFacts("Odd", "odd:f", *about))
names, y = ("a", "b"), torch.arange(64) % 2
x = 3 * torch.arange(64, dtype=torch.uint8).expand(64, 64).reshape(64, 1, 8, 8)


def f(ARGUMENTS):
    return RESULT
"""
TRAIN = ("train", *QUICK[4:], "--limit", 64, "--max-steps", 1, "-o", "mine")
KINDS = {"attack": ATTACK, "method": METHOD, "network": NETWORK, "metric": METRIC, "data": DATA}
COMMANDS = {
    "attack": ("attack", "flat", "-n", 20, "--attack", "odd"),
    "method": (*TRAIN, "--dataset", "digits", "--arch", "small", "--method", "odd"),
    "network": (*TRAIN, "--dataset", "digits", "--method", "at", "--arch", "odd"),
    "metric": ("score", "flat", "--features", "flat", "-n", 20, "--metric", "odd", "--splits", 2),
    "data": (*TRAIN, "--method", "standard", "--dataset", "odd"),
}


@pytest.fixture
def place(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Restores the tables and the import path, and is the working directory."""
    for table in (ARCHITECTURES, ATTACKS, DATASETS, METHODS, METRICS):
        monkeypatch.setattr(table, "_entries", dict(table))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    monkeypatch.chdir(tmp_path)
    save_run("flat", gain=2.0)
    return tmp_path


LINE = ("`odd.py`, line ", " failed: ", "JEAT_DEBUG=1")
CALLED = "does not take what it is called with: "


IMAGES = "images, reference"
METHOD_ARGS, ATTACK_ARGS = "self, model, x, y, rng", "surrogate, batch, options"


@pytest.mark.parametrize(
    ("kind", "arguments", "result", "word", "found"),
    [
        ("attack", ATTACK_ARGS, "1 / 0", "{}", (*LINE, "ZeroDivisionError")),
        ("attack", ATTACK_ARGS, "batch.x", "{'steps': 3}", (CALLED, "`odd`")),
        ("attack", f"{ATTACK_ARGS}, *, steps", "batch.x", "{}", (CALLED, "steps")),
        ("attack", ATTACK_ARGS, "batch.x / 0 * 0", "{}", ("with pixels that are NaN",)),
        ("method", METHOD_ARGS, "nothing", "loss", (*LINE, "AttributeError")),
        ("method", "self, model, x, y", "nothing", "loss", ("`loss` of `Odd` of", CALLED)),
        ("method", METHOD_ARGS, "nothing", "lose", ("the method `odd` has no `loss`",)),
        ("network", "self, shape", "nothing", "features", (*LINE, "AttributeError")),
        ("network", "self", "out(x.flatten(1))", "features", ("network `odd`", CALLED)),
        ("network", "self, shape", "out(x)", "forward", ("network `odd` has no `features`",)),
        ("metric", IMAGES, "images.nothing", "", (*LINE, "AttributeError")),
        ("metric", "images", "{'x': 1.0}", "", ("metric `odd`", CALLED)),
        ("metric", IMAGES, "3.0", "", ("metric `odd` returned float",)),
        ("metric", IMAGES, "{'x': 'high'}", "", ("returned `x`, which is not a name",)),
        ("metric", IMAGES, "{}", "", ("metric `odd` returned no numbers",)),
        ("data", "request", "None", "", ("data set `odd` returned a NoneType", "(n, C, H, W)")),
        ("data", "request", "x, y", "", ("returned a tuple of length 2",)),
        ("data", "", "x, y, names", "", ("data set `odd` ", CALLED)),
        ("data", "request", "x, y + 1, names", "", ("labels of `odd` go from 1 to 2",)),
        ("data", "request", "x, y.float(), names", "", ("labels of `odd` are torch.float32",)),
        ("data", "request", "x, y[:3], names", "", ("labels of `odd` have the shape 3 for 64",)),
        ("data", "request", "x, y, 'abc'", "", ("other classes than its row has",)),
        ("data", "request", "x.float(), y, names", "", ("images of `odd` have pixels from 0",)),
        ("data", "request", "x.expand(-1, 3, 8, 8), y, names", "", ("are 3x8x8, and its row",)),
    ],
)
def test_what_is_wrong_is_named(
    place: Path, kind: str, arguments: str, result: str, word: str, found: tuple[str, ...]
) -> None:
    text = KINDS[kind].replace("ARGUMENTS", arguments).replace("RESULT", result)
    (place / "odd.py").write_text(text.replace("NAME", word).replace("OPTIONS", word))
    said = here(*COMMANDS[kind], JEAT_PLUGINS="odd.py")
    refused(said, said.exit_code, *found, "Hint: ")


def test_numbers_of_libraries_are_numbers_of_a_metric() -> None:
    returned = {"a": np.float32(1.5), "b": torch.tensor(2), "c": Estimate(3.0, 2.0, 4.0)}
    numbers = checked_metric("odd", returned, ())
    assert numbers == {"a": 1.5, "b": 2.0, "c": 3.0}
    assert intervals_of(numbers) == {"c": (2.0, 4.0)}
    with pytest.raises(JeatError, match="`a`, which another metric returns"):
        checked_metric("odd", returned, ["a"])


def test_arrays_of_a_data_set_become_tensors(place: Path) -> None:
    text = DATA.replace("ARGUMENTS", "request").replace("RESULT", "x.numpy(), y.tolist(), names")
    (place / "odd.py").write_text(text)
    done(*COMMANDS["data"], JEAT_PLUGINS="odd.py")
