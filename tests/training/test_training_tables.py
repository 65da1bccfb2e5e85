"""Optimisers, schedules and presets are rows of tables: one of each is added from outside."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers.cli import done, here, refused
from helpers.compare_runs import lines
from helpers.training import config, run

from jeatcli.catalogue import Catalogue, Entry
from jeatcli.training.presets import PRESETS, entry
from jeatcli.training.settings import OPTIMIZERS, SCHEDULES


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module outside the package, and leave the tables as they were."""
    module = ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    for table in (OPTIMIZERS, SCHEDULES, PRESETS):
        monkeypatch.setattr(table, "_entries", dict(table._entries))
    return module


def test_an_optimiser_and_a_schedule_from_elsewhere_train(elsewhere: Any, tmp_path: Path) -> None:
    def rmsprop(settings: Any, groups: Any, fused: bool) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(groups, settings.lr)

    elsewhere.rmsprop = rmsprop
    elsewhere.halved = lambda settings, done, after: 0.5
    OPTIMIZERS.add("rmsprop", Entry("RMSprop", "elsewhere:rmsprop"))
    SCHEDULES.add("halved", Entry("half", "elsewhere:halved"))
    run(tmp_path / "run", optimizer="rmsprop", schedule="halved", warmup=0.0, lr=2e-3)
    assert [line["lr"] for line in lines(tmp_path / "run")] == [1e-3, 1e-3]
    with pytest.raises(Exception, match="unknown optimizer `rmspro`"):
        config(optimizer="rmspro")


def test_a_preset_from_elsewhere_is_one_of_the_recipes(elsewhere: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('# My recipe\nmethod = "at"\ndataset = "digits"\nepochs = 3\n')
    PRESETS.add("mine", entry(file))
    assert "epochs = 3" in done("train", "--preset", "mine", "--dry-run")
    refused(here("train", "--preset", "mime"), 2, "did you mean `mine`")


def test_the_tables_say_what_each_row_is() -> None:
    for table in (OPTIMIZERS, SCHEDULES, PRESETS):
        assert isinstance(table, Catalogue)
        assert all(table.summaries().values())
