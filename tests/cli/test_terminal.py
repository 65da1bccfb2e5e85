"""What is said on stderr: progress as lines and bars, quiet, and no commands to the terminal."""

from __future__ import annotations

import contextlib
import errno
import io
import sys

import pytest
from click.testing import CliRunner

from jeatcli.cli import bars, main, output, task
from jeatcli.cli import terminal as ui
from jeatcli.errors import JeatError
from jeatcli.runtime import files


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(task.time, "monotonic", clock)
    return clock


def test_lines_say_what_how_far_and_how_fast(time, capsys):
    with ui.Terminal().track("epoch 3/40", 1400) as bar:
        time.now = 1.0
        bar(700, loss=0.53123, energy_gap=-1.5)
        time.now = 2.0
        bar(700, loss=0.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "epoch 3/40  700/1,400 images  700 images/s  0:01 left  loss 0.5312  energy gap -1.500",
        "epoch 3/40  1,400/1,400 images  700 images/s  0:02  loss 0.5000  energy gap -1.500",
    ]


def test_lines_become_rarer(time, capsys):
    day = 24 * 3600
    with ui.Terminal().track("train", day, "step") as bar:
        for _ in range(day):
            time.now += 1
            bar(1)
    lines = capsys.readouterr().err.splitlines()
    assert 20 < len(lines) < 120
    assert lines[-1] == "train  86,400/86,400 steps  1.0 steps/s  24:00:00"


def test_the_time_left_does_not_count_what_is_done_once(time, capsys):
    with ui.Terminal().track("train", 100, "step") as bar:
        time.now = 60.0
        bar(1)
        time.now = 70.0
        bar(49)
        time.now = 80.0
        bar(50)
    assert capsys.readouterr().err.splitlines() == [
        "train  1/100 steps  0.017 steps/s  1:39:00 left",
        "train  50/100 steps  4.9 steps/s  0:10 left",
        "train  100/100 steps  1.2 steps/s  1:20",
    ]


def test_a_resumed_bar_counts_the_rate_from_where_it_began(time, capsys):
    with ui.Terminal().track("train", 100, "step", done=90) as bar:
        time.now = 0.5
        bar(10)
    assert capsys.readouterr().err == "train  100/100 steps  20 steps/s  0:00\n"


def test_a_task_that_fails_has_no_last_line(time, capsys):
    with contextlib.suppress(JeatError), ui.Terminal().track("score", 10) as bar:
        bar(3)
        raise JeatError("no")
    assert capsys.readouterr().err == ""


def test_lines_have_no_escapes(capsys):
    terminal = ui.Terminal()
    with terminal.track("a [bold]b[/bold]", 2) as outer, terminal.track("inner", 1) as inner:
        inner(1)
        terminal.say("[red]said[/red]")
        terminal.warn("beware")
        outer(2)
    terminal.hint("jeat attack x")
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "a [bold]b[/bold]  2/2" in err
    assert "[red]said[/red]\nWarning: beware\n" in err
    assert err.endswith("Hint: jeat attack x\n")


def test_quiet_says_nothing(capsys):
    terminal = ui.Terminal(quiet=True)
    with terminal.track("a", 1) as bar:
        bar(1, loss=1.0)
    terminal.say("said")
    terminal.warn("beware")
    terminal.hint("jeat attack x")
    assert capsys.readouterr() == ("", "")


class Full(io.StringIO):
    """A stream on a full device."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stream", [None, Full()])
def test_a_stderr_that_cannot_be_written_ends_no_work(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    assert not ui.is_terminal()
    terminal = ui.Terminal()
    with terminal.track("sample", 3) as bar:
        bar(3)
    terminal.warn("nobody hears this")
    assert output.WARNED[-1] == "nobody hears this"


def test_bars_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(ui, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    terminal = ui.Terminal()
    with terminal.track("outer [x]", 4) as outer:
        with terminal.track("inner", 1) as inner:
            inner(1)
        terminal.say("said [y]")
        outer(4, loss=0.25)
    err = capsys.readouterr().err
    assert "said [y]\n" in err
    assert "outer [x]" in err
    assert "  loss 0.2500" in err
    assert terminal._live is None


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_a_bar_of_training_fits_on_its_line(columns, monkeypatch, capsys, time):
    monkeypatch.setattr(ui, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    with ui.Terminal().track("train jeat", 40320) as bar:
        bar(20160 - 1088)
        time.now = 7.0
        figures = {"epoch": "3/30", "loss": 2.5211, "robust accuracy (training)": "1.6 %"}
        bar(1088, **figures, energy_gap=-1.25)
    shown = capsys.readouterr().err.splitlines()[-1]
    assert len(shown) <= columns
    assert shown.startswith("train jeat ━")
    assert "epoch 3/30  155 images/s  2:10 left  loss 2.521" in shown
    assert ("robust accuracy (training) 1.6 %" in shown) == (columns > 80)
    assert ("energy gap -1.25" in shown) == (columns == 200)


@pytest.mark.parametrize(("columns", "rows"), [(100, 2), (70, 2), (50, 4), (30, 6)])
def test_bars_erase_the_rows_into_which_a_narrower_terminal_breaks_them(columns, rows):
    shown = bars.new_bars()
    shown.live.console.width = columns
    drawn = shown.live._live_render
    assert drawn.position_cursor().segment.text == ""
    drawn._shape = (70, 2)
    assert drawn.position_cursor().segment.text.count("\x1b[2K") == rows
    assert drawn.last_render_height == 2
    with shown:
        assert drawn is shown.live._live_render


def test_nothing_that_is_printed_commands_the_terminal(capsys):
    """Names of classes and versions come from files of others."""
    evil = "cat\x1b]0;owned\x07\r\x9b2J\u202edog\ttab\nline"
    terminal = ui.Terminal()
    terminal.say(evil)
    with terminal.track(evil, 1) as bar:
        bar(1)
    terminal.warn(evil)
    output.write(evil)
    written = "".join(capsys.readouterr())
    assert "\\x1b]0;owned\\x07\\r\\x9b2J\\u202edog\ttab\nline" in written
    assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e"} & set(written)


def test_errors_do_not_command_the_terminal_either():
    for words in (["\x1b[31m"], ["train", "\x1b[31m"], ["train", "--dataset", "\x1b[31m"]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert "\\x1b[31m" in result.stderr
        assert "\x1b" not in result.stderr


def test_a_path_that_is_no_utf_8_is_printed_as_its_bytes(capfdbinary):
    output.write("/runs/bad\udcff")
    ui.Terminal().say("/runs/bad\udcff")
    assert capfdbinary.readouterr() == (b"/runs/bad\xff\n", b"/runs/bad\\udcff\n")


def test_quiet_and_verbose_exclude_each_other():
    result = CliRunner().invoke(main, ["attack", "-q", "-v"])
    assert result.exit_code == 2
    assert "`--quiet` and `--verbose` exclude each other" in result.stderr


def test_clock():
    assert [task.clock(s) for s in (0.4, 59.6, 3600, 90061)] == [
        "0:00",
        "1:00",
        "1:00:00",
        "25:01:01",
    ]


def test_next_command_names_a_run_as_it_is_typed():
    assert ui.next_command("attack", None) == "jeat attack"
    assert ui.next_command("attack", str(files.runs_dir() / "a")) == "jeat attack a"
    assert ui.next_command("attack", "./my runs/a") == "jeat attack './my runs/a'"
