"""A stream that is closed, full or without a reader changes no exit code and no file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import EXECUTABLE, LATEST, STANDARD, environment

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="as a POSIX shell does it")
CLOSED = (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")
BELOW = ("attack", LATEST, "-n", "4", "-q", "--steps", "1", "--fail-under", "1")


def shell(*words: str, end: str) -> subprocess.CompletedProcess[str]:
    """Run a command by a shell that closes or moves streams."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {end}', "-", str(EXECUTABLE), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )


@pytest.mark.parametrize("end", [">&-", "2>&-", "2> /dev/full", "2> >(true)"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nonsense",), 2),
        (("attack", "--eps", "x"), 2),
        ((), 2),
        (("attack", "nonsense"), 1),
        (BELOW, 4),
    ],
)
def test_the_exit_code_is_that_of_the_failure(home: Path, words, code, end):
    said = shell(*words, end=end)
    assert said.returncode == code
    assert "Traceback" not in said.stderr
    assert "Error" not in said.stdout


@pytest.mark.parametrize("end", CLOSED)
def test_no_file_takes_the_place_of_a_closed_stream(home: Path, tmp_path: Path, end):
    """Libraries write to the numbers 1 and 2: what a command opens must have others."""
    plugin = tmp_path / "streams.py"
    plugin.write_text(
        "import os\n"
        f"with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
        "    file.write(str(file.fileno()))\n"
    )
    said = subprocess.run(
        ["bash", "-c", f'"$@" {end}', "-", str(EXECUTABLE), "--runs"],
        capture_output=True,
        env=environment(JEAT_PLUGINS=str(plugin)),
    )
    assert said.returncode == 0, said.stderr
    assert int((tmp_path / "file").read_text()) > 2


def test_a_run_is_the_same_without_streams(home: Path):
    model = home / "standard" / "model.safetensors"
    assert shell(*STANDARD, "-o", "closed", end=CLOSED[-1]).returncode == 0
    assert (home / "closed" / model.name).read_bytes() == model.read_bytes()


def test_streams_that_are_open_stay():
    script = (
        "import sys; from jeatcli.runtime.streams import open_closed\n"
        "before = sys.stdin, sys.stdout, sys.stderr\n"
        "open_closed()\n"
        "assert before == (sys.stdin, sys.stdout, sys.stderr)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=dict(os.environ))
