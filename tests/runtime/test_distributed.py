"""Several processes of one run, started by torchrun, on the CPU by gloo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import STANDARD, done, environment, here, pixels
from helpers.compare_runs import lines
from helpers.forked import Forked
from safetensors.torch import load_file

from jeatcli.checkpoints import runs
from jeatcli.checkpoints.header import read_header
from jeatcli.core.rng import BatchRng
from jeatcli.data import loader
from jeatcli.data.images import load_images
from jeatcli.errors import Interrupted, JeatError, UsageProblem
from jeatcli.runtime import distributed
from jeatcli.runtime.interrupts import answered_by
from jeatcli.training.resolve import read_config
from jeatcli.training.train import train

LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
DIGITS = (
    *("--dataset", "digits", "--limit", "128", "--batch-size", "32", "--device", "cpu"),
    *("--lr", "1e-3", "--precision", "fp32"),
)


def launch(*arguments: object) -> subprocess.Popen[str]:
    """Start a command as two processes."""
    command = [*LAUNCH, "-m", "jeatcli", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment())


def by_torchrun(*arguments: object) -> str:
    """Run a command as two processes, which must succeed and speak once; return its stdout."""
    process = launch(*arguments)
    return spoken_once(process, [process.communicate(timeout=200)])


def both(*arguments: object) -> str:
    """Do so without `torchrun`, with what it serves and says: three imports of torch less."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    told |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    ranks = [
        Forked(*arguments, env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **told))
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=200) for rank in ranks]
    for rank in ranks:
        spoken_once(rank, said)
    return said[0][0]


def spoken_once(process: Forked | subprocess.Popen[str], found: Sequence[tuple[str, str]]) -> str:
    """Check that a process has succeeded, and what all have said; return their stdout."""
    said, heard = ("".join(texts) for texts in zip(*found, strict=True))
    assert process.returncode == 0, heard
    assert said.count("\n") == 1, said
    assert "FutureWarning" not in heard
    return said


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "`WORLD_SIZE` is 2: environment variable RANK expected"),
        ({"RANK": "0"}, "MASTER_ADDR expected"),
        ({"RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "?"}, "`WORLD_SIZE` is 2: .*'?'"),
        ({"RANK": "0", "MASTER_ADDR": "127.0.0.1"}, "the 2 processes of the command have not met"),
        ({"RANK": "1", "MASTER_ADDR": "127.0.0.1"}, "the 2 processes of the command have not met"),
    ],
)
def test_a_process_whose_others_do_not_come_ends(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone(monkeypatch, message, {"MASTER_PORT": str(port), **variables})


def alone(monkeypatch: pytest.MonkeyPatch, message: str, variables: dict[str, str]) -> None:
    """Start one of two processes, and see it end."""
    for name in ("RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"WORLD_SIZE": "2", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "_MEETING", timedelta(seconds=1))
    with (
        pytest.raises(JeatError, match=message) as caught,
        distributed.joined(torch.device("cpu")),
    ):
        pass
    assert "unset `WORLD_SIZE`" in str(caught.value.hint)


def test_a_process_that_waits_for_others_hears_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of `torchrun` where another one has failed: it kills what does not end by it."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told = {"RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    for name, value in {"WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True", **told}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "_MEETING", timedelta(seconds=60))
    ended = threading.Timer(1, os.kill, [os.getpid(), signal.SIGTERM])
    began = time.monotonic()
    ended.start()
    joined = distributed.joined(torch.device("cpu"))
    with answered_by(), pytest.raises(KeyboardInterrupt), joined:
        pass
    assert time.monotonic() - began < 30


def test_a_second_attempt_does_not_meet_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `torchrun`, which serves one store for all its attempts."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set("attempt 0/rank 1", "here")
    variables = {
        "RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "1",
    }
    alone(monkeypatch, "have not met: wait timeout .*attempt 1/rank 1", variables)


def test_parts_of_a_batch_draw_what_the_whole_draws() -> None:
    like = torch.empty(6, 1, 2, 2)
    whole, parts = BatchRng(3), [BatchRng(3, part=(k, 3)) for k in range(3)]
    for draw in ("uniform", "normal"):
        found = [getattr(part, draw)(like[:2]) for part in parts]
        assert torch.equal(torch.cat(found), getattr(whole, draw)(like))
    assert torch.equal(torch.cat([part.integers(9, 2) for part in parts]), whole.integers(9, 6))
    chosen = [part.choice(50, 10) for part in parts]
    assert all(len(each.unique()) == 10 for each in chosen)
    assert not torch.equal(chosen[0], chosen[1])


def test_parts_of_the_loader_make_up_its_batches() -> None:
    images = load_images("digits", "train").first(70)
    whole = loader.Loader(images, 12, augment="crop+flip", seed=1)
    parts = [loader.Loader(images, 12, augment="crop+flip", seed=1, part=(k, 3)) for k in range(3)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *shares in zip(whole.epoch(2), *(part.epoch(2) for part in parts), strict=True):
        for index in range(2):
            assert torch.equal(torch.cat([share[index] for share in shares]), batch[index])
    with pytest.raises(UsageProblem, match="split over 5 processes"):
        loader.Loader(images, 12, augment="crop+flip", seed=1, part=(0, 5))


@pytest.mark.slow
@pytest.mark.parametrize("awp", [0, 0.01])
def test_two_processes_have_the_loss_curve_of_one(awp: float, tmp_path: Path) -> None:
    more = ("--method", "at", "-O", f"awp={awp}", "--attack-steps", 2, "--epochs", 3, *DIGITS)
    start = both if awp else by_torchrun
    assert start("train", *more, "-o", tmp_path / "two") == f"{tmp_path / 'two'}\n"
    train(read_config(tmp_path / "two" / "config.toml"), tmp_path / "one", device="cpu")
    assert (tmp_path / "two" / "samples" / "epoch-003.png").exists()
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert {"test_clean", "test_robust"} < two[-1].keys()
    assert [line["step"] for line in two] == [4, 8, 12]
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            assert right[key] == pytest.approx(left[key], rel=2e-4, abs=1e-5), key


@pytest.mark.slow
def test_two_processes_end_a_run_that_was_stopped_within_an_epoch(tmp_path: Path) -> None:
    """Only the first keeps the log; the others load its sums, too."""
    more = ("--method", "at", "--attack-steps", 2, "--epochs", 2, "--save-every", 1000, *DIGITS)
    whole = tmp_path / "whole"
    both("train", *more, "-o", whole)
    settings, stop = read_config(whole / "config.toml"), iter([False] * 7 + [True])
    with pytest.raises(Interrupted, match="in epoch 1"):
        train(settings, tmp_path / "left", device="cpu", should_stop=lambda: next(stop))
    both("train", *more, "-o", tmp_path / "left")
    assert [line["step"] for line in lines(tmp_path / "left")] == [4, 8]
    for left, right in zip(lines(whole), lines(tmp_path / "left"), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=2e-4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(done(*STANDARD, "-o", tmp_path_factory.mktemp("ranks") / "run").strip())


def loaded(text: str) -> dict[str, Any]:
    """Return a result without what differs from call to call."""
    found = json.loads(text)
    for counts in found.get("per_attack", {}).values():
        del counts["seconds"]
    return {key: value for key, value in found.items() if key != "seconds"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [
        ("attack", "-n", 21, "--attack", "apgd-ce", "--attack", "fab-t", "--batch-size", 8),
        ("attack", "-n", 1),
        ("score", "-n", 30, "--steps", 3, "--kid-subsets", 3, "--features"),
    ],
    ids=["attack", "attack one image", "score"],
)
def test_two_processes_find_what_one_finds(verb: tuple[object, ...], run: Path) -> None:
    if verb[-1] == "--features":
        verb = (*verb, run)
    command = (*verb[:1], run, *verb[1:], "--device", "cpu", "--json")
    two, one = loaded(both(*command)), loaded(done(*command))
    assert two.keys() == one.keys()
    for key, value in one.items():
        assert two[key] == (pytest.approx(value) if isinstance(value, float) else value), key


def test_a_gate_ends_no_process_before_the_first_has_reported(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torchrun` ends the first process as soon as another one fails."""
    gate = ("attack", run, "-n", 4, "--steps", 1, "--fail-under", 1, "--eps", 1, "--device", "cpu")
    assert here(*gate).exit_code == 4
    monkeypatch.setattr("jeatcli.runtime.launch.first", lambda: False)
    other = here(*gate)
    assert (other.exit_code, other.stdout) == (0, "")


@pytest.mark.slow
def test_two_processes_draw_a_landscape_by_the_first_alone(run: Path, tmp_path: Path) -> None:
    small = ("--grid", 5, "--device", "cpu", "--json", "-o", tmp_path / "map.png")
    assert json.loads(both("landscape", run, *small))["kind"] == "contour"
    assert (tmp_path / "map.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 11])
def test_two_processes_trace_what_one_traces(num: int, run: Path, tmp_path: Path) -> None:
    """Each has seen a part of the ten images, or the second none."""
    both("sample", run, "-n", num, "--steps", 4, "--device", "cpu", "--trace", tmp_path / "2.png")
    one = ("sample", run, "-n", num, "--steps", 4, "--device", "cpu")
    done(*one, "--trace", tmp_path / "1.png", "-o", tmp_path / "grid.png")
    assert np.array_equal(pixels(tmp_path / "1.png"), pixels(tmp_path / "2.png"))


@pytest.mark.slow
@pytest.mark.parametrize(("file", "layout"), [("drawn.npz", "npz"), ("drawn", "png")])
def test_two_processes_draw_what_one_draws(
    file: str, layout: str, run: Path, tmp_path: Path
) -> None:
    few = ("-n", 11, "--steps", 3, "--batch-size", 3, "--device", "cpu")
    command = ("sample", run, *few, "--format", layout, "-o")
    both(*command, tmp_path / "two" / file)
    done(*command, tmp_path / "one" / file)
    ones = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(ones) == (11 if layout == "png" else 1)
    for path in ones:
        assert (
            path.read_bytes()
            == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        )


def workers(launcher: int) -> list[int]:
    """Return the processes that a launcher has started."""
    text = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    return [int(pid) for pid in text.split()]


def saved_step(run: Path) -> int:
    """Return the step of the state on disk, 0 where there is none."""
    state = run / runs.STATE_FILE
    return int(read_header(state)["step"]) if state.exists() else 0


def logged_steps(log: Path) -> list[int]:
    """Return the steps after which there is a line, [0] where there is none."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line)["step"] for line in text.splitlines()] or [0]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux to find the workers")
def test_a_rank_that_dies_ends_the_others_and_the_run_goes_on_as_one(tmp_path: Path) -> None:
    """A buffer a rank; resumed by another number of ranks."""
    run = tmp_path / "run"
    more = ("--method", "jeat", "--attack-steps", 1, "--sgld-steps", 1, "--buffer-size", 80)
    often = ("--epochs", 2000, "--save-every", 1, "--lr", "1e-4")
    process = launch("train", *more, *often, *DIGITS, "-o", run)
    until = time.monotonic() + 150
    log = run / runs.LOG_FILE
    # An epoch has four steps; the state is to be one of several epochs.
    while time.monotonic() < until and saved_step(run) < 9:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(workers(process.pid)[-1], signal.SIGKILL)
    _, heard = process.communicate(timeout=100)
    assert process.returncode != 0
    assert "Error: another process of the command has died" in heard
    state = load_file(run / runs.STATE_FILE)
    assert len(state["method.buffer"]) == 80
    assert not torch.equal(state["method.buffer"][:40], state["method.buffer"][40:])
    saved = saved_step(run)
    # The log is ahead of the state, as it is where the rank dies between the two.
    ahead = lines(run)[-1] | {"step": saved + 4}
    with log.open("a") as end:
        end.write(json.dumps(ahead) + "\n")
    done = logged_steps(log)
    stop = iter([False, False, True])
    with pytest.raises(Interrupted):
        train(read_config(run / "config.toml"), run, device="cpu", should_stop=lambda: next(stop))
    assert len(load_file(run / runs.STATE_FILE)["method.buffer"]) == 80
    # A state from within an epoch may be at its end again before the stop, with a line of its own.
    left = [line["step"] for line in lines(run)]
    kept = [step for step in done if step <= saved]
    assert len(done) > len(kept) >= 2
    assert left[: len(kept)] == kept
    assert all(saved < step < done[-1] for step in left[len(kept) :])


@pytest.mark.parametrize(("code", "expected"), [("None", 0), ("0", 0), ("3", 3), ("'words'", 1)])
def test_a_process_leaves_with_its_exit_code_and_all_it_said(code: str, expected: int) -> None:
    said = f"from jeatcli.runtime import launch; print('said', end=''); launch.leave({code})"
    left = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=False)
    assert (left.returncode, left.stdout) == (expected, "said")
