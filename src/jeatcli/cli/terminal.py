"""What the user sees on the way, on stderr: progress, hints, a picture.

The only file that imports rich, and only for the bars of a terminal.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..checkpoints.runs import is_name
from ..errors import PictureWarning, UsageProblem
from ..runtime import interrupts, launch
from ..runtime.files import runs_dir
from ..runtime.progress import Bar, BarContext, Watched
from . import output

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.progress import Progress

_SOURCES = {
    ParameterSource.COMMANDLINE: "command line",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
}
# The key of the context that holds when a command began.
BEGAN = "jeatcli.began"
FIRST_LINE = 1.0
LINE_EVERY = 5.0


class Task:
    """The state of one bar: what is done, how fast, and the latest figures."""

    def __init__(self, label: str, total: int, unit: str, done: float) -> None:
        self.label, self.total = output.clean(label), total
        self.units = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
        self.done = self.begun = done
        self.start = time.monotonic()
        self.figures: dict[str, float | str] = {}
        self.first: tuple[float, float] | None = None

    def advance(self, amount: float, figures: Mapping[str, float | str]) -> None:
        """Count `amount` units as done, with the latest figures."""
        interrupts.go_on()
        self.done += amount
        self.figures.update(figures)
        if amount and self.first is None:
            self.first = self.done, self.seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    @property
    def rate(self) -> float:
        """Return units a second, 0 before anything is done.

        While the task runs, the first units do not count: they may have waited for a compilation.
        """
        done, seconds = self.begun, 0.0
        if self.first and self.first[0] < self.done < self.total - 1e-6:
            done, seconds = self.first
        return (self.done - done) / max(self.seconds - seconds, 1e-9)

    def time_text(self) -> str:
        """Write the time left, or the time taken once all is done."""
        if self.done >= self.total - 1e-6:
            return clock(self.seconds)
        return f"{clock((self.total - self.done) / self.rate)} left" if self.rate else ""

    def parts(self) -> list[str]:
        """Write everything but the label and the count, the most important first."""
        digits = 0 if self.rate >= 10 else 1 if self.rate >= 1 else 3
        rate = f"{self.rate:,.{digits}f} {self.units}/s" if self.done > self.begun else ""
        figures = [
            f"{name.replace('_', ' ')} {output.cell_text(value)}"
            for name, value in self.figures.items()
        ]
        epoch = [text for text in figures if text.startswith("epoch ")]
        others = [text for text in figures if text not in epoch]
        return [part for part in (*epoch, rate, self.time_text(), *others) if part]

    def line(self) -> str:
        """Write everything: `700/1,400 images  1,234 images/s  0:05 left  loss 0.53`."""
        count = f"{math.floor(self.done + 1e-6):,}/{self.total:,} {self.units}"
        return "  ".join((self.label, count, *self.parts()))

    def fitted(self, width: int) -> str:
        """Write as much of it as fits beside a bar."""
        texts = accumulate(self.parts(), "{}  {}".format)
        return max((text for text in texts if len(text) <= width), key=len, default="")


class Terminal:
    """The reporter of the command line: bars on a terminal, plain lines elsewhere.

    A verbose one writes lines, and more of them, on a terminal too; a quiet one, and those of
    several processes after the first, say nothing.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        if quiet and verbose:
            raise UsageProblem("`--quiet` and `--verbose` exclude each other")
        self.quiet, self.verbose = quiet or not launch.first(), verbose
        self._live: Progress | None = None

    def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> BarContext:
        """Open a bar; one that is opened within another vanishes when it is done."""
        if self.quiet:
            return Watched(interrupts.go_on).track(label, total)
        task = Task(label, total, unit, done)
        return self._lines(task) if self.verbose or not is_terminal() else self._bar(task)

    def say(self, text: str) -> None:
        """Write a line on stderr, above the bars where there are any."""
        if self.quiet:
            return
        text = output.clean(text, sys.stderr)
        with suppress(OSError):  # a stderr that cannot be written ends no work
            if self._live is not None:
                self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                click.echo(text, err=True)

    def detail(self, text: str) -> None:
        """Write a line that only `--verbose` shows."""
        if self.verbose:
            self.say(text)

    def warn(self, text: str) -> None:
        """Write a line that begins with `Warning:`, and keep the text for `--json`."""
        output.WARNED.append(text)
        self.say(f"Warning: {text}")

    def in_place_of(self, usual: Callable[..., None]) -> Callable[..., None]:
        """Return what shows Python's warnings: those of pictures in one line, others as usual."""

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, PictureWarning):
                self.warn(str(message))
            else:
                usual(message, category, *where)

        return show

    def hint(self, command: str) -> None:
        """Name the command that is likely to come next."""
        self.say(f"Hint: {command}")

    @contextmanager
    def _lines(self, task: Task) -> Iterator[Bar]:
        """Write a line soon, then ever more rarely, and one at the end."""
        shown, due = -1.0, FIRST_LINE

        def advance(amount: float, **figures: float | str) -> None:
            nonlocal shown, due
            task.advance(amount, figures)
            if task.seconds >= due:
                # Ever longer pauses: a day's log stays short, a minute's is not empty.
                pause = FIRST_LINE if self.verbose else max(LINE_EVERY, task.seconds / 10)
                shown, due = task.done, task.seconds + pause
                self.say(task.line())

        yield advance
        if shown != task.done:
            self.say(task.line())

    @contextmanager
    def _bar(self, task: Task) -> Iterator[Bar]:
        outermost = self._live is None
        live = self._live = self._live or _progress()
        if outermost:
            live.start()
        number = live.add_task(task.label, total=task.total, detail="")

        def advance(amount: float, **figures: float | str) -> None:
            task.advance(amount, figures)
            room = live.console.width - len(task.label) - _bar_width(live.console.width) - 2
            # A sum of parts may end a little below the whole.
            done = task.total if task.done >= task.total - 1e-6 else task.done
            live.update(number, completed=done, detail=task.fitted(room))

        try:
            advance(0)
            yield advance
        finally:
            if outermost:
                live.stop()
                self._live = None
            else:
                live.remove_task(number)


def _progress() -> Progress:
    from rich.console import Console
    from rich.control import Control
    from rich.live_render import LiveRender
    from rich.progress import BarColumn, Progress, TextColumn

    class Reflowed(LiveRender):
        """Bars that erase all rows into which a terminal breaks them when it is made narrower."""

        def position_cursor(self) -> Control:
            drawn = self._shape
            if drawn is not None:
                self._shape = drawn[0], drawn[1] * max(1, math.ceil(drawn[0] / console.width))
            control = super().position_cursor()
            self._shape = drawn
            return control

    console = Console(stderr=True, highlight=False)
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_bar_width(console.width)),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
    )
    bars.live._live_render = Reflowed(bars.get_renderable())
    return bars


def _bar_width(width: int) -> int:
    return 24 if width >= 100 else 12


def open_terminal(quiet: bool, verbose: bool) -> Terminal:
    """Return the reporter of the running command, which begins; a verbose one says who set what."""
    terminal = Terminal(quiet, verbose)
    output.WARNED.clear()
    warnings.showwarning = terminal.in_place_of(warnings.showwarning)
    ctx = click.get_current_context()
    ctx.meta[BEGAN] = time.time()
    for name, value in ctx.params.items():
        if source := source_of(ctx, name):
            terminal.detail(f"{name} = {value} ({source})")
    return terminal


def source_of(ctx: click.Context, name: str) -> str | None:
    """Return where an option was given: `command line`, `environment` or `file`."""
    source = ctx.get_parameter_source(name)
    return _SOURCES.get(source) if source else None


def next_command(verb: str, run: str | None) -> str:
    """Write a command on `run` as it is typed: a bare name for one in the runs directory."""
    if run is None:
        return f"jeat {verb}"
    path = Path(run)
    known = path.parent == runs_dir() and is_name(path.name)
    return f"jeat {verb} {shlex.quote(path.name if known else run)}"


def is_terminal() -> bool:
    """Tell whether stderr can show bars."""
    return bool(sys.stderr and sys.stderr.isatty()) and os.environ.get("TERM") != "dumb"


def clock(seconds: float) -> str:
    """Write a duration as `0:42` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def show(picture: Image) -> None:
    """Show a picture in the terminal, two pixels a character; nothing where there is none.

    It is made smaller if it is wider than the terminal.
    """
    if not (launch.first() and sys.stdout and sys.stdout.isatty() and is_terminal()):
        return
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    console = Console(stderr=True)
    side = min(1.0, console.width / picture.width)
    size = (max(1, round(picture.width * side)), max(2, 2 * round(picture.height * side / 2)))
    small = picture.convert("RGB").resize(size, 4)  # 4: a box, so that small images stay sharp
    data = small.tobytes()
    colours = ["rgb({},{},{})".format(*data[k : k + 3]) for k in range(0, len(data), 3)]
    for top in range(0, size[1], 2):
        upper, lower = (colours[row * size[0] : (row + 1) * size[0]] for row in (top, top + 1))
        pairs = zip(upper, lower, strict=True)
        console.print(Text.assemble(*(("\u2580", Style(color=u, bgcolor=d)) for u, d in pairs)))
