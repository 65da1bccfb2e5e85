"""benchmarks/results.py: one budget for every row, and figures that are measured once."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest

from jeatcli.methods import METHODS
from jeatcli.training.resolve import resolve

FILE = Path(__file__).parents[1] / "benchmarks" / "results.py"


@pytest.fixture(scope="module")
def results() -> Any:
    spec = importlib.util.spec_from_file_location("results", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results"] = module
    sys.path.insert(0, str(FILE.parent))
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["digits", "cifar10-small", "cifar10"])
def test_every_row_sees_the_same_images(results: Any, name: str) -> None:
    scale = results.SCALES[name]
    assert set(METHODS) <= set(results.EVERY_ROW)
    for row in results.EVERY_ROW:
        config = resolve(scale.settings(row, 3))
        assert 0 <= scale.images - config.max_steps * config.batch_size < config.batch_size
        assert (config.seed, config.val_split, config.eval_every) == (3, 0, 0)
        assert config.epochs * results.TRAINING[config.dataset] >= scale.images
    assert resolve(scale.settings("dat", 0)).options["first_stage"] == config.max_steps // 2
    assert resolve(scale.settings("fast-pgi", 0)).options["variant"] == "pgi"
    fewer = replace(scale, images=640)
    assert resolve(fewer.settings("at", 0)).limit == 640


def test_a_figure_is_measured_once_and_a_new_call_goes_on(
    results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"tested": 50, "attacked": 8, "broken": 4, "samples": 20, "around": 3}
    scale = replace(results.SCALES["digits"], images=320, **few)
    results.means_of_pairs(scale, tmp_path, None)
    judge = str(tmp_path / "runs" / "at-0")
    jobs = [results.Job(scale, tmp_path, "at", 0, judge, None, "cpu", late) for late in (0, 1)]
    jobs[0].run()
    known = json.loads(jobs[0].path.read_text())
    assert "autoattack" not in known
    again = [wraps(measure)(partial(pytest.fail, "again")) for measure in results.MEASURES[:-1]]
    monkeypatch.setattr(results, "MEASURES", (*again, results.MEASURES[-1]))
    jobs[1].run()
    known = json.loads(jobs[1].path.read_text())
    assert known["trained"] == 320
    figures = results.figures(known, 320)
    assert figures.keys() >= results.COLUMNS.keys()
    assert figures["passes"] == 6  # five of the attack, one of the loss
    text = results.table(["at"], {"at": [figures, figures]}, scale)
    assert text.splitlines()[-1].startswith(f"| `at` | {figures['clean']:.3f} ± 0.000 |")
