"""What goes wrong, in words: errors, their exit codes, and tracebacks on request."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from helpers.cli import here

from jeatcli.cli import LazyGroup
from jeatcli.cli.failures import translate
from jeatcli.errors import Diverged, Interrupted, JeatError, UsageProblem


class OutOfMemoryError(RuntimeError):
    """As torch's."""


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (JeatError("what", "fix"), 1, "what fix"),
        (UsageProblem("what"), 2, "what"),
        (Diverged("what"), 3, "what"),
        (Interrupted("what"), 130, "what"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OutOfMemoryError("CUDA out of memory"), 1, "--batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "--batch-size"),
        (MemoryError(), 1, "--batch-size"),
        (ImportError("libtorch_cpu.so: failed to map segment"), 1, "allow more memory"),
        (OSError(errno.ENOSPC, "No space left", "a/b"), 1, "no space left on the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 1, "permission to use `a/b`"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), 1, "No such file: `a/b`"),
        (ModuleNotFoundError("no", name="torch_fidelity"), 1, "`torch_fidelity` is not installed"),
        (RuntimeError("operator torchvision::nms does not exist"), 1, "different builds"),
        (ValueError("odd\nsecond line"), 1, "internal: ValueError: odd run it again"),
        (AssertionError(), 1, "internal: AssertionError run it again"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_in_words(problem, code, words):
    failure = translate(problem)
    assert failure.exit_code == code
    assert words in f"{failure.message} {failure.hint or ''}"
    assert "\n" not in failure.message


def failing(problem: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise problem

    class Failing(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return command

    return Failing("jeat")


@pytest.mark.parametrize("reported", [True, False])
def test_a_failure_that_the_first_process_reports_is_not_repeated(
    reported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    problem = JeatError("the disk is full", "free some space")
    problem.reported = reported
    result = CliRunner().invoke(failing(problem), ["attack"])
    assert result.exit_code == 1
    assert ("the disk is full" in result.stderr) is not reported


@pytest.mark.parametrize(("local", "told"), [("0", True), ("1", False)])
def test_a_mistyped_option_is_told_once_on_each_machine(local: str, told: bool) -> None:
    number = {"WORLD_SIZE": "4", "RANK": str(2 + int(local)), "LOCAL_RANK": local}
    result = here("train", "--val-split", "0.1", **number)
    assert result.exit_code == 2
    assert ("--val-split" in result.stderr) is told


def test_an_error_is_two_lines_and_no_traceback():
    result = CliRunner().invoke(failing(JeatError("what", "fix")), ["attack"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: what\nHint: fix\n"


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("JEAT_DEBUG", "1")
    result = CliRunner().invoke(failing(ValueError("odd")), ["attack"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert "Error: internal: ValueError: odd\n" in result.stderr


@pytest.mark.parametrize("off", ["", "0", "false", "OFF"])
def test_debug_that_is_off_shows_no_traceback(monkeypatch, off):
    monkeypatch.setenv("JEAT_DEBUG", off)
    result = CliRunner().invoke(failing(ValueError("odd")), ["attack"])
    assert result.stderr.startswith("Error: internal: ValueError: odd\n")


def test_a_backend_of_matplotlib_that_is_not_there_ends_no_command():
    """As `MPLBACKEND` of a notebook, whose cells pass it on, or a misspelt one."""
    script = "from jeatcli.cli import main; main(['--runs'], standalone_mode=False)"
    script = f"import contextlib\nwith contextlib.suppress(BaseException): exec({script!r})\n"
    script += "import matplotlib; print(matplotlib.rcParams['backend'])"
    said = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"MPLBACKEND": "nonsense"},
    )
    assert said.stdout.splitlines()[-1:] == ["agg"], said.stderr


def test_interruption_exits_with_130():
    result = CliRunner().invoke(failing(KeyboardInterrupt()), ["attack"])
    assert (result.exit_code, result.stderr) == (130, "Error: interrupted\n")


def test_a_closed_pipe_is_no_error():
    result = CliRunner().invoke(failing(BrokenPipeError(errno.EPIPE, "Broken pipe")), ["attack"])
    assert result.exit_code == 1
    assert result.stderr == ""
