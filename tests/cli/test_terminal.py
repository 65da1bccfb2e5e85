"""Progress on stderr, results on stdout: lines, quiet, JSON, tables, and errors in words."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from jeatcli.cli import LazyGroup, main, output, reports
from jeatcli.cli import terminal as ui
from jeatcli.cli.failures import translate
from jeatcli.errors import Diverged, Interrupted, JeatError, UsageProblem
from jeatcli.runtime import files
from jeatcli.runtime.plain import plain


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(ui.time, "monotonic", clock)
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
    bars = ui._progress()
    bars.live.console.width = columns
    drawn = bars.live._live_render
    assert drawn.position_cursor().segment.text == ""
    drawn._shape = (70, 2)
    assert drawn.position_cursor().segment.text.count("\x1b[2K") == rows
    assert drawn.last_render_height == 2
    with bars:
        assert drawn is bars.live._live_render


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


@dataclass
class Result:
    path: Path
    clean: float
    broken: float
    per_attack: dict[str, float]
    classes: tuple[str, ...]
    seed: int
    done: bool


RESULT = Result(Path("runs/x"), 0.25, float("nan"), {"pgd": float("inf")}, ("cat",), 3, True)


def test_json_is_one_object_with_numbers_as_numbers(capsys):
    output.emit(RESULT, as_json=True, human=lambda: "human")
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "path": "runs/x",
        "clean": 0.25,
        "broken": None,
        "per_attack": {"pgd": None},
        "classes": ["cat"],
        "seed": 3,
        "done": True,
    }


def test_json_takes_arrays_and_refuses_objects():
    numpy = pytest.importorskip("numpy")
    assert plain({"a": numpy.float32(0.5), "b": numpy.arange(2)}) == {"a": 0.5, "b": [0, 1]}
    with pytest.raises(TypeError, match="object has no place in JSON"):
        plain(object())


def test_human_text(capsys):
    output.emit(RESULT, as_json=False, human=lambda: "human")
    assert capsys.readouterr().out == "human\n"


def test_table_aligns_numbers_to_the_right():
    rows = [("run", "clean", "rise"), ("jeat", "9.00 %", 0.5), ("standard", "10.00 %", 12.25)]
    assert output.table(rows).splitlines() == [
        "run         clean   rise",
        "jeat       9.00 %   0.50",
        "standard  10.00 %  12.25",
    ]


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ((-2.108, -1.8, 0.0), ("-2.108", "-1.800", "0.000")),
        # Four digits of the largest, two of the smallest.
        ((12.25, 0.739, 0.0023), ("12.2500", "0.7390", "0.0023")),
        ((12345.6, 200.0), ("12346", "200")),
        ((37.95, 0.0397, 8.3e-9, 0.0), ("37.9500", "0.0397", "8.3e-09", "0.0000")),
        ((2e-7, 1.5e-7), ("2.000e-07", "1.500e-07")),
        ((12345678.9, 1.5), ("1.235e+07", "1.500")),
        ((1.5, float("nan")), ("1.500", "not finite")),
    ],
)
def test_the_numbers_of_a_column_have_the_same_decimals(values, written):
    rows = [("run", "rise"), *(("at", value) for value in values)]
    assert [row[1] for row in output.cell_texts(rows)] == ["rise", *written]


@pytest.mark.parametrize(
    ("numbers", "written"),
    [
        ((8.5, 8.3, 8.69), "8.50 [8.30, 8.69]"),
        ((8.6, 6.8, 10.7), "8.60 [6.80, 10.70]"),
        ((-1e-4, -0.5, 0.6), "-0.0001 [-0.5000, 0.6000]"),
        ((1234.0, 1200.4, 1300.0), "1234 [1200, 1300]"),
        ((1.23e-9, 0.0, 2e-9), "1.23e-09 [0.00e+00, 2.00e-09]"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
    ],
)
def test_the_numbers_of_an_interval_have_the_same_decimals(numbers, written):
    interval = dict(zip(("mean", "low", "high"), numbers, strict=True))
    assert reports.interval_text(interval) == written


def test_numbers_that_are_text_or_missing_stand_to_the_right_too():
    rows = [
        ("run", "n", "clean", "size"),
        ("9", "1,797", "-", "17.1 MB"),
        ("10", "9", "7.00 %", "2 kB"),
    ]
    assert output.table(rows).splitlines() == [
        "run      n   clean     size",
        "9    1,797       -  17.1 MB",
        "10       9  7.00 %     2 kB",
    ]


def test_table_counts_the_columns_of_a_terminal():
    rows = [("run", "clean"), ("数字", "1 %"), ("e\u0301te", "22 %")]
    assert output.table(rows).splitlines() == ["run   clean", "数字    1 %", "e\u0301te    22 %"]


def test_clock():
    assert [ui.clock(s) for s in (0.4, 59.6, 3600, 90061)] == [
        "0:00",
        "1:00",
        "1:00:00",
        "25:01:01",
    ]


def test_next_command_names_a_run_as_it_is_typed():
    assert ui.next_command("attack", None) == "jeat attack"
    assert ui.next_command("attack", str(files.runs_dir() / "a")) == "jeat attack a"
    assert ui.next_command("attack", "./my runs/a") == "jeat attack './my runs/a'"


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
