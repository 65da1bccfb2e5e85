"""Ctrl-C and SIGTERM: saved, said, exit 130."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import (
    EXECUTABLE,
    QUICK,
    STANDARD,
    environment,
    here,
    pixels,
    refused,
    stopped_after,
    untouched,
)

from jeatcli.cli import terminal as ui
from jeatcli.cli.train import stop_on_signal
from jeatcli.training.callbacks import Grids, Validation
from jeatcli.training.trainer import Trainer

LATEST = "digits-jeat-small"


def interrupted(
    sent: signal.Signals, at: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run the executable and send it a signal once a line of stderr begins with `at`."""
    with subprocess.Popen(
        [EXECUTABLE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell starts its background jobs, such as a whole test run, deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        killer = threading.Timer(120, process.kill)
        killer.start()
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith(at):
                process.send_signal(sent)
                break
        stdout, rest = process.stdout.read(), process.stderr.read()
        code = process.wait()
        killer.cancel()
    return subprocess.CompletedProcess([], code, stdout, "".join(lines) + rest)


def test_ctrl_c_while_training_saves(home: Path) -> None:
    run = home / "long"
    long = ("train", "--method", "standard", *QUICK, "--limit", "0", "-o", "long", "--epochs", 500)
    said = interrupted(signal.SIGINT, "train standard", *long)
    saved = f"the state is saved in `{run}`"
    refused(said, 130, "Error: stopped", saved, "Hint: run the same command again to resume")
    log = run / "metrics.jsonl"  # not there if the first epoch was not done yet
    lines = log.read_text().splitlines() if log.exists() else []
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    with stopped_after(1 + 43 * (len(lines) + 1)):
        said = here(*long)
    refused(said, 130, f"continuing `{run}` from step ", "Error: stopped", saved)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [3, 4])
def test_a_run_that_was_stopped_goes_on_to_its_end(
    home: Path, sent: signal.Signals, step: int
) -> None:
    """The third step is within an epoch, the fourth the last of one."""
    two = (*STANDARD, "--epochs", 2)
    assert here(*two, "-o", "straight").exit_code == 0
    with stopped_after(step, sent):
        said = here(*two, "-o", "twice")
    refused(
        said,
        130,
        "in epoch 1 of 2" if step == 3 else "after epoch 1 of 2",
        "run the same command again",
    )
    again = here(*two, "-o", "twice")
    assert (again.exit_code, again.stdout) == (0, f"{home / 'twice'}\n")
    for name in ("model.safetensors", "config.toml", "state.safetensors"):
        assert (home / "twice" / name).read_bytes() == (home / "straight" / name).read_bytes()
    assert len((home / "twice" / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("where", ["validation", "grid"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_that_is_stopped_in_the_evaluations_after_an_epoch(
    home: Path, monkeypatch: pytest.MonkeyPatch, where: str, epochs: int
) -> None:
    """They may take minutes: the resumed run begins them again, and ends in the same bits."""
    long = (*STANDARD, "--epochs", epochs, "--val-split", 40, "--eval-every", 1)
    long = (*long, "--sample-every", 1, "--save-every", 1000)
    assert here(*long, "-o", "straight").exit_code == 0
    part = Validation if where == "validation" else Grids
    follow = part.on_epoch

    def signalled(self: Validation | Grids, trainer: Trainer) -> None:
        signal.raise_signal(signal.SIGINT)
        follow(self, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(part, "on_epoch", signalled)
        refused(here(*long, "-o", "twice"), 130, f"at the end of epoch 1 of {epochs}")
    assert not (home / "twice" / "metrics.jsonl").exists()
    assert not (home / "twice" / "model.safetensors").exists()
    assert here(*long, "-o", "twice").exit_code == 0
    for name in ("model.safetensors", "best.safetensors", "state.safetensors"):
        assert (home / "twice" / name).read_bytes() == (home / "straight" / name).read_bytes(), name
    grids = [pixels(home / name / "samples" / "epoch-001.png") for name in ("straight", "twice")]
    assert np.array_equal(*grids)
    lines = [
        [
            {k: v for k, v in json.loads(line).items() if "second" not in k}
            for line in (home / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("straight", "twice")
    ]
    assert lines[0] == lines[1]


def test_one_of_several_processes_takes_an_echo_for_no_second_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = ui.Terminal(quiet=True)
    with stop_on_signal(terminal):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with stop_on_signal(terminal) as should_stop:
        assert not should_stop()
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert should_stop()
        later = time.monotonic() + 6
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("verb", "more"), [("attack", ("--steps", 50)), ("sample", ("-n", 5000, "--steps", 20))]
)
def test_ctrl_c_elsewhere(home: Path, verb: str, more: tuple[object, ...]) -> None:
    with untouched(home / "standard"):
        said = interrupted(signal.SIGINT, verb, verb, LATEST, "-b", 1, *more)
    refused(said, 130, "attack was stopped" if verb == "attack" else "stopped; a grid")
    # An attack keeps what it found, to go on from there; a grid is nothing until it is whole.
    kept = [path.name for path in (home / LATEST).glob("attack-*")]
    assert bool(kept) == (verb == "attack")
    assert not list((home / LATEST).glob("samples/*-seed*"))
