"""Kill -9 at any moment: the resumed run equals the uninterrupted one bit for bit.

`JEAT_TEST_KILLS` sets how often the process is killed, 20 by default. The processes are forked
from one that has imported torch, so that a life costs its training and not its imports.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from helpers.compare_runs import lines, same
from helpers.training import config
from safetensors.torch import load_file, save_file

from jeatcli.checkpoints import runs
from jeatcli.checkpoints.checkpoint import load
from jeatcli.runtime import files
from jeatcli.training.settings import TrainConfig
from jeatcli.training.state import Saver
from jeatcli.training.train import train

KILLS = int(os.environ.get("JEAT_TEST_KILLS", "20"))


def settings() -> TrainConfig:
    """Return a run that writes its files every two steps, the best weights among them."""
    often = {"limit": 32, "batch_size": 16, "val_split": 20, "eval_every": 2}
    return config("jeat", **often, epochs=24, lr=1e-3, options={"buffer_size": 60})


def live(folder: Path) -> None:
    """Train until the end or the kill."""
    import torch

    torch.set_num_threads(1)
    Saver.rare = 0  # saves at every epoch, although they are short
    train(settings(), folder, device="cpu")


class Lives:
    """Processes that train one run after another, as many as it takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["jeatcli.training.train", "jeatcli.core.jeat"])

    def begin(self) -> BaseProcess:
        process = self.context.Process(target=live, args=(self.folder,))
        process.start()
        return process


def unfinished(folder: Path) -> list[Path]:
    """Return the files that are being written, or were when their process died."""
    return list(folder.glob(".*.tmp"))


def kill(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def moments(count: int, longest: float) -> Iterator[tuple[float, bool]]:
    """Yield delays before a kill, and whether it is to wait for the next file being written."""
    rng = random.Random(0)
    for index in range(count):
        yield rng.uniform(0, longest), index % 2 == 1


@pytest.mark.slow
def test_killed_at_random_moments_equals_never_killed_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    began = time.monotonic()
    first = Lives(straight).begin()
    first.join()
    assert first.exitcode == 0
    lives, deaths, within_a_file = Lives(killed), 0, 0
    # Some kills fall before the first save, most on the way, and the run must not end too soon.
    longest = 2.5 * (time.monotonic() - began) / KILLS
    for delay, while_writing in moments(KILLS, longest):
        process = lives.begin()
        until = time.monotonic() + delay
        while process.is_alive() and time.monotonic() < until:
            time.sleep(0.001)
        while while_writing and process.is_alive() and not unfinished(killed):
            pass
        if process.is_alive():
            kill(process)
            deaths += 1
            within_a_file += bool(unfinished(killed))
        assert process.exitcode in (0, -signal.SIGKILL)
    last = lives.begin()
    last.join()
    assert last.exitcode == 0
    assert deaths > KILLS / 2
    assert within_a_file > 0
    same(straight, killed)
    assert len(lines(killed)) == 24
    assert not unfinished(killed)
    assert (killed / runs.BEST_FILE).exists()
    assert load(killed).meta.finished


def left_by_a_dead_process(path: Path) -> Path:
    name = files.temporary_beside(path).name
    return path.with_name(name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))


def test_the_litter_of_a_killed_process_is_cleared_and_no_more(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(config(epochs=1), run)
    for name in (runs.STATE_FILE, runs.BEST_FILE, runs.LOG_FILE):
        left_by_a_dead_process(run / name).write_bytes(b"half a file")
    alive = files.temporary_beside(run / "attack.json")
    alive.write_bytes(b"somebody's who works on it now")
    (run / runs.MODEL_FILE).unlink()
    files.sweep.cache_clear()
    train(config(epochs=1), run)
    assert unfinished(run) == [alive]


def test_a_process_that_died_before_its_first_file_is_no_obstacle(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    left_by_a_dead_process(run / "config.toml").write_text("meth")
    train(config(epochs=1), run)
    assert load(run).meta.finished
    assert not unfinished(run)


def test_killed_between_state_and_model_the_model_is_written_at_the_next_start(
    tmp_path: Path,
) -> None:
    """The state says that the run is done; its model is of the epoch before."""
    train(config(epochs=1), tmp_path / "run")
    old = tmp_path / "run" / runs.MODEL_FILE
    train(config(), tmp_path / "two")
    whole = (tmp_path / "two" / runs.MODEL_FILE).read_bytes()
    header = json.dumps(runs.read_header(old) | {"finished": False, "digest": None})
    save_file(load_file(old), tmp_path / "two" / runs.MODEL_FILE, {"jeat": header})
    assert train(config(), tmp_path / "two").images == 0
    assert (tmp_path / "two" / runs.MODEL_FILE).read_bytes() == whole
