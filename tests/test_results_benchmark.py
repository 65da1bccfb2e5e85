"""benchmarks/results.py: one budget for every row, and figures that are measured once."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path

import pytest

from jeatcli.methods import METHODS
from jeatcli.training.resolve import resolve

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))
results = importlib.import_module("results")
runs = importlib.import_module("results_runs")
scales = importlib.import_module("results_scales")
tables = importlib.import_module("results_table")


@pytest.mark.parametrize("name", ["digits", "cifar10-small", "cifar10"])
def test_every_row_sees_the_same_images(name: str) -> None:
    scale = scales.SCALES[name]
    assert set(METHODS) <= set(scales.EVERY_ROW)
    for row in scales.EVERY_ROW:
        config = resolve(scale.settings(row, 3))
        assert 0 <= scale.images - config.max_steps * config.batch_size < config.batch_size
        assert (config.seed, config.val_split, config.eval_every) == (3, 0, 0)
        assert config.epochs * scales.TRAINING[config.dataset] >= scale.images
    assert resolve(scale.settings("dat", 0)).options["first_stage"] == config.max_steps // 2
    assert resolve(scale.settings("fast-pgi", 0)).options["variant"] == "pgi"
    fewer = replace(scale, images=640)
    assert resolve(fewer.settings("at", 0)).limit == 640


def test_a_figure_is_measured_once_and_a_new_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"tested": 50, "attacked": 8, "broken": 4, "samples": 20, "around": 3}
    scale = replace(scales.SCALES["digits"], images=320, **few)
    results.means_of_pairs(scale, tmp_path, None)
    judge = str(tmp_path / "runs" / "at-0")
    jobs = [runs.Job(scale, tmp_path, "at", 0, judge, None, "cpu", late) for late in (0, 1)]
    jobs[0].run()
    known = json.loads(jobs[0].path.read_text())
    assert "autoattack" not in known
    again = [wraps(measure)(partial(pytest.fail, "again")) for measure in runs.MEASURES[:-1]]
    monkeypatch.setattr(runs, "MEASURES", (*again, runs.MEASURES[-1]))
    jobs[1].run()
    known = json.loads(jobs[1].path.read_text())
    assert known["trained"] == 320
    figures = tables.figures(known, 320)
    assert figures.keys() >= tables.COLUMNS.keys()
    assert figures["passes"] == 6  # five of the attack, one of the loss
    text = tables.table(["at"], {"at": [figures, figures]}, scale)
    assert text.splitlines()[-1].startswith(f"| `at` | {figures['clean']:.3f} ± 0.000 |")
