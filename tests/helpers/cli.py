"""Commands as a user types them: through the installed executable, or faster in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from jeatcli.cli import main

EXECUTABLE = Path(sys.executable).with_name("jeat")
QUICK = (
    *("--dataset", "digits", "--limit", "128", "--epochs", "1", "--batch-size", "32"),
    *("--sample-every", "0", "--eval-every", "0"),
)
# The finished run of `conftest.home` that a command takes when no RUN is named.
LATEST = "digits-jeat-small"
STANDARD = ("train", "--method", "standard", *QUICK)
JEAT = (
    *("train", "--method", "jeat", *QUICK),
    *("-O", "sgld_steps=2", "-O", "attack_steps=2", "-O", "buffer_size=50"),
)


def environment(**more: str) -> dict[str, str]:
    """Return the test's environment with one thread, and colours if a command wants them."""
    kept = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def jeat(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the installed executable."""
    return subprocess.run(
        [EXECUTABLE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(**more),
    )


def here(*arguments: object, **more: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, [*map(str, arguments)], env=more)


def done(*arguments: object, **more: str) -> str:
    """Run a command in this process that must succeed; return its stdout."""
    result = here(*arguments, **more)
    assert result.exit_code == 0, result.stderr
    return result.stdout


Said = Result | subprocess.CompletedProcess[str]


def refused(said: Said, code: int, *words: str) -> None:
    """Check the exit code, the words on stderr (line breaks aside), and what is not there."""
    found = said.exit_code if isinstance(said, Result) else said.returncode
    text = " ".join(said.stderr.split())
    assert found == code, said.stderr
    assert said.stdout == ""
    assert "Error: " in text
    assert "Traceback" not in text
    assert "internal" not in text
    for word in words:
        assert word in text, text


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the time of writing of all files below `folder`."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Check that no file below `folder` is changed, lost or left behind."""
    before = everything(folder)
    yield
    assert everything(folder) == before


@contextmanager
def stopped_after(steps: int, sent: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Send this process a signal after so many steps of training."""
    from jeatcli.training.trainer import Trainer

    if signal.getsignal(sent) is signal.SIG_IGN:  # as a shell has it in the background
        signal.signal(sent, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as monkeypatch:
        update = Trainer.update

        def counted(self: Trainer, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
            found = update(self, *batch)
            if self.step == steps:
                os.kill(os.getpid(), sent)
            return found

        monkeypatch.setattr(Trainer, "update", counted)
        yield


def parsed(said: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object of a command that succeeded."""
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("\n") == 1
    assert "\x1b" not in said.stdout + said.stderr
    return dict(json.loads(said.stdout))


def one(*arguments: object, **more: str) -> dict[str, Any]:
    return dict(json.loads(done(*arguments, "--json", **more)))


def settings(picture: Path) -> dict[str, Any]:
    with Image.open(picture) as image:
        return dict(json.loads(image.info["jeat"]))


def pixels(picture: Path) -> np.ndarray[Any, Any]:
    with Image.open(picture) as image:
        return np.asarray(image)
