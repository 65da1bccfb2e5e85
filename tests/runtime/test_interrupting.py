"""Signals that an import or a callback swallows, that come twice, or as the process ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress

import click
import pytest
from click.testing import CliRunner

from jeatcli.cli import LazyGroup, terminal
from jeatcli.runtime.interrupts import answered_by, put_off, was_interrupted


def lost() -> None:
    """Send a signal of which a callback takes the interrupt."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("quiet", [True, False])
def test_an_interrupt_that_was_lost_is_raised_where_something_advances(quiet: bool) -> None:
    with answered_by(), terminal.Terminal(quiet).track("work", 2) as bar:
        lost()
        with pytest.raises(KeyboardInterrupt):
            bar(1)
    with answered_by(), terminal.Terminal(quiet).track("work", 2) as bar:
        bar(1)  # the next command knows nothing of it


def test_an_import_comes_to_its_end_before_it_is_interrupted() -> None:
    done: list[int] = []

    def load(signals: int) -> None:
        with put_off():
            for _ in range(signals):
                signal.raise_signal(signal.SIGINT)
            done.append(signals)

    for signals in (1, 2):
        with answered_by(), pytest.raises(KeyboardInterrupt):
            load(signals)
    assert done == [1]  # the second ends it at once


def test_what_goes_wrong_by_an_interrupt_is_one() -> None:
    @click.command()
    def command() -> None:
        lost()
        raise AttributeError("module 'numpy' has no attribute 'ma'")

    class Half(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return command

    said = CliRunner().invoke(Half("jeat"), ["attack"])
    assert (said.exit_code, said.stderr) == (130, "Error: interrupted\n")


def test_of_several_processes_no_command_takes_an_echo_for_a_second_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answered_by():
        lost()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with answered_by():
        lost()
        assert was_interrupted()
        signal.raise_signal(signal.SIGTERM)
        later = time.monotonic() + 6
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_ctrl_c_as_the_process_ends_prints_no_traceback() -> None:
    script = (
        "import atexit, os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from jeatcli.cli import main\n"
        "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(9)))\n"
        "sys.argv = ['jeat', '--version']\n"
        "main()\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert said.stdout.startswith("jeat ")
    assert (said.returncode, said.stderr) == (-signal.SIGINT, "")
