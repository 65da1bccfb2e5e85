"""How long a run takes: said before, and chosen by `--budget`."""

from __future__ import annotations

import itertools
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.cli import done, here, refused
from helpers.runs import Listener
from helpers.training import config

from jeatcli.acceleration.ways import Way
from jeatcli.training import budget, log, setup
from jeatcli.training.budget import fit_to_budget
from jeatcli.training.resolve import read_config
from jeatcli.training.train import train

DIGITS = ("train", "--method", "standard", "--dataset", "digits", "--device", "cpu", "-b", 32)
SHORT = (*DIGITS, "--limit", 128, "--sample-every", 0)


@pytest.mark.parametrize(
    ("seconds", "epochs", "max_steps"), [(100.0, 21, 0), (5.0, 1, 0), (1.0, 1, 1), (1e-3, 1, 1)]
)
def test_the_epochs_are_those_that_fit(
    seconds: float,
    epochs: int,
    max_steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a second a step, four steps an epoch, and 15 % of the time for the rest."""
    monkeypatch.setattr(budget, "_seconds_per_step", lambda _: 1.0)
    fitted = fit_to_budget(config(eval_every=0), seconds, tmp_path / "run", device="cpu")
    assert (fitted.epochs, fitted.max_steps) == (epochs, max_steps)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("seconds", "every", "epochs", "max_steps"),
    # An epoch takes 4 s, an evaluation 6, and 85 % of the time is theirs.
    [(100.0, 0, 21, 0), (50.0, 1, 4, 0), (30.0, 1, 2, 0), (30.0, 5, 4, 0), (10.0, 5, 1, 2)],
)
def test_evaluations_are_a_part_of_the_budget(
    seconds: float,
    every: int,
    epochs: int,
    max_steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "_seconds_per_step", lambda _: 1.0)
    monkeypatch.setattr(budget, "_seconds_per_validation", lambda _: 6.0)
    fitted = fit_to_budget(config(eval_every=every), seconds, tmp_path / "run", device="cpu")
    assert (fitted.epochs, fitted.max_steps) == (epochs, max_steps)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_evaluation_takes_the_passes_of_its_attack(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = setup.build(config(eval_every=1), tmp_path / "run", torch.device("cpu"))
    monkeypatch.setattr(ready.trainer, "ranks", SimpleNamespace(size=processes))
    clock = itertools.count()
    monkeypatch.setattr(budget.time, "perf_counter", lambda: float(next(clock)))
    seen: list[int] = []
    hook = ready.trainer.average.model.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )
    took = budget._seconds_per_validation(ready)
    hook.remove()
    # A second a pass: PGD's ten and one for the verdict, of as many batches as there are.
    assert took == 11 * len(ready.evaluated) / seen[0] / processes
    assert seen == [min(256, len(ready.evaluated))] * 3


def test_a_step_takes_the_mean_of_five_after_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = setup.build(config(), tmp_path / "run", torch.device("cpu"))
    ends = iter([100.0, 101.0, 103.0, 106.0, 110.0, 115.0])
    monkeypatch.setattr(budget.time, "perf_counter", lambda: next(ends))
    assert budget._seconds_per_step(ready) == (115 - 100) / 5
    assert next(ends, None) is None


def test_a_budget_is_recorded_as_epochs_and_resumed_with_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_seconds_per_step", lambda _: 1.0)
    said = done(*SHORT, "--eval-every", 0, "--budget", "20s", "-o", "short")
    assert read_config(home / "short" / "config.toml").epochs == 4
    monkeypatch.setattr(budget, "_seconds_per_step", lambda _: 0.1)
    again = here(*SHORT, "--eval-every", 0, "--budget", "20s", "-o", "short")
    assert again.stdout == said
    assert "is done" in again.stderr


def test_a_budget_counts_on_the_kernel_of_a_run_as_long_as_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few steps take the library's; a run of a hundred epochs is worth a measurement."""
    monkeypatch.setattr(
        setup, "choose", lambda *asked: Way("winograd" if asked[2].updates > 5000 else "library")
    )
    seconds = {"library": 0.1, "winograd": 0.05}
    monkeypatch.setattr(
        budget, "_seconds_per_step", lambda ready: seconds[ready.trainer.config.kernel]
    )
    for time, epochs, kernel in ((40.0, 170, "winograd"), (2.0, 4, "library")):
        fitted = fit_to_budget(config(), time, tmp_path / "run", device="cpu")
        assert (fitted.epochs, fitted.kernel, fitted.compile) == (epochs, kernel, False)


def test_a_budget_is_measured(tmp_path: Path) -> None:
    listener = Listener()
    fitted = fit_to_budget(config(), 0.5, tmp_path / "run", device="cpu", reporter=listener)
    assert fitted.epochs >= 1
    assert "in the budget, at " in listener.said[-1]
    fit_to_budget(config(), 1e-4, tmp_path / "run", device="cpu", reporter=listener)
    assert "part of an epoch (1 step) in the budget" in listener.said[-1]


@pytest.mark.parametrize("text", ["", "30", "m", "0m", "-5m", "1e3m", "nan", "5 minutes"])
def test_what_is_no_time_is_refused(text: str) -> None:
    refused(here("train", "--budget", text, "--dry-run"), 2, "not a time such as 90s, 30m")


@pytest.mark.parametrize("other", ["--epochs", "--max-steps"])
def test_a_budget_and_a_length_exclude_each_other(other: str) -> None:
    words = f"`{other}` exclude each other"
    refused(here("train", "--budget", "5m", other, 3, "--dry-run"), 2, words)


@pytest.mark.parametrize("preset", ["rice2020", "madry2018"])
def test_a_budget_replaces_the_length_of_a_recipe(
    preset: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_seconds_per_step", lambda _: 1.0)
    quick = ("--dataset", "digits", "--arch", "small", "--limit", 128, "-b", 32, "--val-split", 0)
    quick = (*quick, "--eval-every", 0, "--sample-every", 0, "--attack-steps", 1)
    done("train", "--preset", preset, *quick, "--budget", "10s", "-o", "recipe")
    settings = read_config(home / "recipe" / "config.toml")
    assert (settings.epochs, settings.max_steps) == (2, 0)
    refused(here("train", "--preset", preset, "--epochs", 3, "--budget", "5m"), 2, "exclude each")


def test_no_budget_has_more_epochs_than_a_run_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_seconds_per_step", lambda _: 1e-3)
    settings = config(eval_every=0, kernel="library", compile=False)
    fitted = fit_to_budget(settings, 1e5, tmp_path / "run", device="cpu")
    assert fitted.epochs == 1_000_000


def test_a_long_run_is_announced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for long, count in ((0.0, 1), (1e9, 0)):
        listener = Listener()
        monkeypatch.setattr(log, "_LONG", long)
        train(config(epochs=3), tmp_path / str(count), device="cpu", reporter=listener)
        assert sum("measured on 5 steps" in line for line in listener.said) == count
        assert (
            "standard on digits: small (438,090 weights), 3 epochs of 4 steps" in listener.said[0]
        )
        assert listener.said[1] == "128 training images, not augmented"
    train(config(limit=1, epochs=1), tmp_path / "one", device="cpu", reporter=listener)
    assert "1 epoch of 1 step, " in "".join(listener.said)
    assert "1 training image, not augmented" in listener.said


def test_a_first_step_that_compiles_says_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for compiled, count in ((True, 0), (False, 1)):
        listener = Listener()
        records = log.Log(tmp_path / "metrics.jsonl", listener)
        monkeypatch.setattr(records, "began", perf_counter() - 60)
        run: Any = SimpleNamespace(
            step=1, steps=100, config=SimpleNamespace(compile=compiled), device=torch.device("cpu")
        )
        records._announce(run)
        assert len(listener.said) == count


def test_slow_steps_are_announced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_LONG", 0.0), ("_SLOW", 0.0)):
        monkeypatch.setattr(log, name, value)
    listener = Listener()
    train(config(epochs=3), tmp_path / "slow", device="cpu", reporter=listener)
    announced = [line for line in listener.said if "measured on" in line]
    assert len(announced) == 1
    assert "on this CPU (measured on 1 step); `--budget 1m` for less" in announced[0]


def test_durations_read_as_people_say_them() -> None:
    said = [log.duration(seconds) for seconds in (45, 150, 11_400, 500_000)]
    assert said == ["45 s", "2 min", "3 h 10 min", "6 days"]


def test_no_cpu_begins_what_it_cannot_finish(home: Path) -> None:
    """The paper's network is a default that only a GPU can train."""
    refused(
        here("train", "--method", "jeat", "--device", "cpu"),
        2,
        "would take months on a CPU",
        "`--arch small --budget 30m`",
    )
    assert not (home / "cifar10-jeat-wrn-28-10").exists()


def test_training_ends_with_its_accuracy(home: Path) -> None:
    said = here(*SHORT, "--eval-every", 1, "--epochs", 1, "-v", "-o", "accurate")
    last = said.stderr.splitlines()[-2]
    assert last.startswith("test accuracy ")
    assert " % robust (PGD-10 on at most 500 images" in last
    assert sum(line.startswith("epoch 1/1  loss ") for line in said.stderr.splitlines()) == 1
    assert said.stderr.count("seed = 0") == 1
