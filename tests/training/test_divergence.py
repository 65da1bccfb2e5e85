"""Runs that run away: what is noticed, where they go back to, and what is kept."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import QUICK, here, refused, stopped_after
from helpers.compare_runs import lines
from helpers.training import config, run
from safetensors.torch import load_file

from jeatcli.checkpoints import runs
from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.header import read_header
from jeatcli.core.rng import mix
from jeatcli.errors import Diverged
from jeatcli.methods.standard import Standard
from jeatcli.runtime.progress import BarContext, Silent
from jeatcli.training import divergence, trainer
from jeatcli.training.schedules import lr_factor
from jeatcli.training.state import Saver
from jeatcli.training.train import train
from jeatcli.training.trainer import Metrics, Trainer


@pytest.mark.parametrize(
    ("name", "limit"), [("energy", 1e4), ("energy_sgld", 1e4), ("energy_gap", 1e3), ("loss", 3e38)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_runs_away(name: str, limit: float, sign: int) -> None:
    look = divergence.Divergence()
    look.latest = {name: torch.tensor(0.99 * sign * limit)}
    look.check()
    for value in (1.2 * sign * limit, torch.inf, torch.nan):
        look.latest = {name: torch.tensor(value)}
        with pytest.raises(divergence.Diverging, match=f"{name} is"):
            look.check()


def test_a_collapse_is_noticed_rolled_back_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absurd weight of the energies makes them run away within an epoch."""
    absurd = {"lambda": 1e6, "energy_l2": 0.0, "sgld_step_size": 1e3}
    settings = config("jem", lr=1.0, grad_clip=0.0, retries=2, options=absurd)
    with pytest.raises(Diverged, match="3 times in all") as caught:
        train(settings, tmp_path / "run")
    assert caught.value.exit_code == 3
    events = [line for line in lines(tmp_path / "run") if line.get("event") == "diverged"]
    assert [event["attempt"] for event in events] == [1, 2, 3]
    for value in tensors_of_state(tmp_path / "run").values():
        assert torch.isfinite(value.float()).all()


# Steps of that size, their gradients not clipped, throw the chains far out of the data.


ABSURD = {"sgld_step_size": 1e3, "sgld_clip": 0.0}


def test_a_real_collapse_is_recovered_from_at_lower_rates_with_new_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: dict[tuple[int, int], int] = {}

    def noted(seed: int, attempt: int, step: int) -> int:
        return seeds.setdefault((attempt, step), mix(seed, attempt, step))

    monkeypatch.setattr(trainer, "mix", noted)
    settings = config("jem", lr=0.4, schedule="constant", warmup=0.0, retries=9, options=ABSURD)
    train(settings, tmp_path / "run")
    log = lines(tmp_path / "run")
    events = [line for line in log if line.get("event") == "diverged"]
    assert [event["attempt"] for event in events] == list(range(1, len(events) + 1))
    assert all("energy" in event["reason"] for event in events)
    rates = [event["lr"] for event in events]
    assert rates
    assert rates == pytest.approx([0.4 * 0.5**attempt for attempt in range(1, len(rates) + 1)])
    assert log[-1]["epoch"] == 2
    assert log[-1]["lr"] == rates[-1]
    assert seeds[0, 0] != seeds[1, 0]
    assert load(tmp_path / "run").meta.finished


def test_a_real_collapse_without_retries_leaves_the_last_state_and_exits_with_3(
    tmp_path: Path,
) -> None:
    absurd = (f"{name}={value}" for name, value in ABSURD.items())
    command = ("train", "--method", "jem", *QUICK, "--epochs", 9, "--lr", 0.4, "--retries", 0)
    command += ("--schedule", "constant", *(f"-O{pair}" for pair in absurd))
    command += ("-O", "buffer_size=100", "--device", "cpu", "-o", tmp_path / "run")
    with stopped_after(2):
        refused(here(*command), 130, "in epoch 1")
    state = (tmp_path / "run" / runs.STATE_FILE).read_bytes()
    refused(here(*command), 3, "training diverged", "the last good state is kept")
    assert (tmp_path / "run" / runs.STATE_FILE).read_bytes() == state


def tensors_of_state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / runs.STATE_FILE)


def test_a_run_recovers_with_a_new_seed_and_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt at step 5 fails; the second goes through."""
    loss = Standard.classify
    state = {"broken": False}

    def once(self: Standard, logits: torch.Tensor, y: torch.Tensor) -> Any:
        value, metrics = loss(self, logits, y)
        if not state["broken"] and len(seen) == 5:
            state["broken"] = True
            value = value * float("nan")
        seen.append(1)
        return value, metrics

    seen: list[int] = []

    monkeypatch.setattr(Standard, "classify", once)
    monkeypatch.setattr(divergence.Divergence, "every", 1)
    monkeypatch.setattr(Saver, "rare", 0)
    result = run(tmp_path / "run")
    assert result.epochs == 2
    assert state["broken"]
    events = [line for line in lines(tmp_path / "run") if "event" in line]
    assert [event["diverged_at"] for event in events] == [6]
    assert events[0]["step"] == 4
    assert lines(tmp_path / "run")[-1]["epoch"] == 2
    assert load(tmp_path / "run").meta.finished


def test_a_run_that_dies_as_it_rolls_back_has_the_divergence_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = divergence.Divergence.on_step

    def fail(self: divergence.Divergence, at: Trainer, metrics: Metrics) -> None:
        look(self, at, metrics)
        if at.step == 6 and at.attempt < 2:
            raise divergence.Diverging("the gap is 1e+09")

    def full(self: Saver, trainer: Trainer) -> None:
        if trainer.attempt in dying:
            raise OSError("the disk is full")
        save_again(self, trainer)

    save_again = Saver.save_again
    monkeypatch.setattr(divergence.Divergence, "on_step", fail)
    monkeypatch.setattr(Saver, "rare", 0)
    monkeypatch.setattr(Saver, "save_again", full)
    for dying in ([1], [2], []):
        with pytest.raises(OSError, match="full") if dying else nullcontext():
            run(tmp_path / "run")
    log = lines(tmp_path / "run")
    assert [line["attempt"] for line in log if "event" in line] == [1, 2]
    assert [line["step"] for line in log if "event" not in line] == [4, 8]


def test_where_the_last_state_fails_again_the_one_before_is_gone_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states are of steps 4 and 8; twice the run fails at step 9."""
    look = divergence.Divergence.on_step

    def fail(self: divergence.Divergence, at: Trainer, metrics: Metrics) -> None:
        look(self, at, metrics)
        if at.step == 9 and at.attempt < 2:
            raise divergence.Diverging("the gap is 1e+09")

    monkeypatch.setattr(divergence.Divergence, "on_step", fail)
    monkeypatch.setattr(Saver, "rare", 0)
    begun: list[int] = []

    class Watcher(Silent):
        def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> BarContext:
            begun.append(done)
            return super().track(label, total, unit, done)

    settings = config(epochs=3)
    train(settings, tmp_path / "run", reporter=Watcher())
    assert begun == [0, 8 * 32, 4 * 32]
    log = lines(tmp_path / "run")
    events = [line for line in log if "event" in line]
    assert [(event["step"], event["attempt"]) for event in events] == [(8, 1), (4, 2)]
    for event in events:
        factor = lr_factor(settings, (event["step"] + 1) / 13)
        assert event["lr"] == pytest.approx(settings.lr * factor * 0.5 ** event["attempt"])
    assert [line["step"] for line in log if "event" not in line] == [4, 8, 12]
    before, last = (
        read_header(tmp_path / "run" / name) for name in (runs.STATE_BEFORE_FILE, runs.STATE_FILE)
    )
    assert (before["step"], before["attempt"]) == (8, 2)
    assert (last["step"], last["attempt"]) == (12, 2)
