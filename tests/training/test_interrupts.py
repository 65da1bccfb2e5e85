"""Ctrl-C and SIGTERM: saved, said, exit 130."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from helpers.cli import (
    EXECUTABLE,
    QUICK,
    STANDARD,
    environment,
    here,
    refused,
    stopped_after,
    untouched,
)

from jeatcli.cli import terminal as ui
from jeatcli.cli.train import stop_on_signal

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
    refused(said, 130, "Error: stopped", saved, "Hint: run the same command again to continue")
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
