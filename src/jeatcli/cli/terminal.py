"""What the user is told on the way, on stderr: progress, warnings, hints."""

from __future__ import annotations

import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..checkpoints.runs import is_name
from ..errors import PictureWarning, UsageProblem
from ..runtime import interrupts, launch
from ..runtime.files import runs_dir
from ..runtime.progress import Bar, BarContext, Watched
from . import output
from .options import source_of
from .task import Task

if TYPE_CHECKING:
    from rich.progress import Progress

# The key of the context that holds when a command began.
BEGAN = "jeatcli.began"
FIRST_LINE = 1.0
LINE_EVERY = 5.0


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
        from .bars import new_bars, room_for_detail

        outermost = self._live is None
        live = self._live = self._live or new_bars()
        if outermost:
            live.start()
        number = live.add_task(task.label, total=task.total, detail="")

        def advance(amount: float, **figures: float | str) -> None:
            task.advance(amount, figures)
            done = task.total if task.is_done else task.done
            detail = task.fitted(room_for_detail(live, task.label))
            live.update(number, completed=done, detail=detail)

        try:
            advance(0)
            yield advance
        finally:
            if outermost:
                live.stop()
                self._live = None
            else:
                live.remove_task(number)


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
