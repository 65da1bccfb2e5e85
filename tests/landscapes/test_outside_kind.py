"""A kind of landscape and its figure from outside the package: rows of two tables."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers.runs import load_run

from jeatcli.catalogue import Entry
from jeatcli.errors import UsageProblem
from jeatcli.landscapes import KINDS, Kind
from jeatcli.landscapes.landscape import energy_landscape, save_numbers
from jeatcli.landscapes.settings import LandscapeSettings
from jeatcli.landscapes.view import LandscapeInputs, describe_models
from jeatcli.plots.figure import new_figure
from jeatcli.plots.landscape import FIGURES, draw
from jeatcli.settings import setting


@dataclass(frozen=True)
class MeanSettings(LandscapeSettings):
    kind = "mean"

    num: int = setting(3, "Images", low=1)


@dataclass(frozen=True)
class MeanResult:
    values: Any
    runs: Any
    title = "Mean energies"

    def summary(self) -> dict[str, Any]:
        return {"results": [run.describe() for run in self.runs], "mean": self.values.tolist()}

    def arrays(self) -> dict[str, Any]:
        return {"mean": self.values}


def measure(inputs: LandscapeInputs, settings: MeanSettings) -> MeanResult:
    x, y = inputs.first(settings.num)
    means = [-model.classifier(x).gather(1, y[:, None]).mean().item() for model in inputs.models]
    return MeanResult(np.array(means), describe_models(inputs.models))


def bars(result: MeanResult) -> Any:
    figure = new_figure(3, 2)
    figure.add_subplot().bar([run.label for run in result.runs], result.values)
    return figure


def test_a_kind_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType("outside_kind")
    vars(module).update(measure=measure, bars=bars)
    monkeypatch.setitem(sys.modules, "outside_kind", module)
    monkeypatch.setitem(
        KINDS._entries, "mean", Kind("Mean energies", "outside_kind:measure", MeanSettings)
    )
    monkeypatch.setitem(FIGURES._entries, "mean", Entry("Bars", "outside_kind:bars"))
    models = [load_run("one"), load_run("two", seed=1)]
    landscape = energy_landscape(models, kind="mean", num=5)
    assert landscape.summary()["mean"][0] != landscape.summary()["mean"][1]
    assert draw(landscape, tmp_path / "mean.png").stat().st_size > 1000
    with np.load(save_numbers(landscape, tmp_path / "mean.npz")) as arrays:
        assert arrays["mean"].shape == (2,)
    assert (
        energy_landscape(models, MeanSettings(num=5)).summary()["mean"]
        == (landscape.summary()["mean"])
    )
    with pytest.raises(UsageProblem, match="`--grid` does nothing for `--kind mean`"):
        energy_landscape(models, kind="mean", grid=5)
