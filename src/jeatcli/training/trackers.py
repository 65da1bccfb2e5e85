"""Who is told of each epoch: `metrics.csv`, `curves.png`, and the services of `--track`.

A tracker is one function: it opens with the run, yields a function of the log's lines, and closes.
"""

import csv
import io
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..catalogue import load
from ..checkpoints.runs import read_log
from ..errors import JeatError
from ..runtime.files import append, write_atomic
from ..runtime.progress import SILENT, Reporter
from .settings import TRACKERS, TrainConfig
from .trainer import Callback, Trainer

IDENTITIES = "tracking.json"
TABLE = "metrics.csv"
CURVES = "curves.png"
# The curves take at most this share of the time; at the end they are drawn in any case.
_SHARE = 0.02
_FIRST_COST = 0.5
_FEWEST = 3
# What a tracker is told: the lines of all epochs so far, the latest last.
Lines = Sequence[Mapping[str, Any]]
Sink = Callable[[Lines], object]


@dataclass(frozen=True)
class Tracked:
    """A run as a tracker sees it."""

    folder: Path
    identity: str  # what the tracker knows it by, the same after a resume
    step: int  # where it continues
    steps: int  # where it ends
    config: TrainConfig

    def settings(self) -> dict[str, Any]:
        """Return the settings, the method's options among the others."""
        settings = asdict(self.config)
        return {**settings.pop("options"), **settings}


@contextmanager
def table(run: Tracked) -> Iterator[Sink]:
    """Write the epochs as a table with a column for each figure.

    An epoch adds its row to what this process has written. It is written anew for another column,
    after a rollback or a resume, and if anything else has changed it.
    """
    path, columns = run.folder / TABLE, list[str]()
    written: Lines = []
    size = 0

    def write(lines: Lines) -> None:
        nonlocal columns, written, size
        ours = path.is_file() and path.stat().st_size == size
        if ours and written == lines[:-1] and lines[-1].keys() <= {*columns}:
            _add_row(path, _rows(columns, lines[-1:]), size)
        else:
            columns = list(dict.fromkeys(name for line in lines for name in line))
            text = _rows(columns, [{name: name for name in columns}, *lines])
            write_atomic(path, lambda beside: beside.write_text(text, "utf-8"))
        written, size = list(lines), path.stat().st_size

    yield write


def _rows(columns: Sequence[str], lines: Lines) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _add_row(path: Path, row: str, size: int) -> None:
    """Add a row to a file of that size, or none: a part of one would end in a wrong number."""
    try:
        append(path, row)
    except JeatError:
        os.truncate(path, size)
        raise


@contextmanager
def curves(run: Tracked) -> Iterator[Sink]:
    """Draw the curves of the run, from the third epoch on."""
    drawn, lines = 0, list[Mapping[str, Any]]()
    due = time.monotonic() + _FIRST_COST / _SHARE

    def draw() -> None:
        nonlocal drawn, due
        began, drawn = time.monotonic(), len(lines)
        # By its name: the figures are in a room above this one.
        load("jeatcli.plots.curves:draw")(lines, run.folder / CURVES, run.folder.name)
        due = time.monotonic() + (time.monotonic() - began) / _SHARE

    def follow(so_far: Lines) -> None:
        nonlocal lines
        lines = list(so_far)
        # At the end before the run is saved as finished, since then nobody would draw them.
        ends = bool(lines) and lines[-1]["step"] >= run.steps
        if len(lines) >= _FEWEST and (ends or time.monotonic() >= due):
            draw()

    try:
        yield follow
    finally:
        if len(lines) >= _FEWEST and len(lines) != drawn:
            draw()


@contextmanager
def tensorboard(run: Tracked) -> Iterator[Sink]:
    """Write event files into the run's directory: `tensorboard --logdir RUN`."""
    from torch.utils.tensorboard import SummaryWriter

    # What was written of later steps, before a kill, is hidden.
    with SummaryWriter(run.folder / "tensorboard", purge_step=run.step + 1) as writer:

        def write(lines: Lines) -> None:
            for name, value in _figures(lines).items():
                writer.add_scalar(name, value, lines[-1]["step"])
            writer.flush()

        yield write


@contextmanager
def wandb(run: Tracked) -> Iterator[Sink]:
    """Log to Weights & Biases, in the project `jeat` or `WANDB_PROJECT`."""
    import wandb as service

    project = os.environ.get("WANDB_PROJECT", "jeat")
    about: dict[str, Any] = {"id": run.identity, "name": run.folder.name, "resume": "allow"}
    # What is printed stays ours.
    about |= {"config": run.settings(), "settings": service.Settings(console="off")}
    logged = service.init(project=project, dir=run.folder, **about)
    # Its own count of steps would refuse those that a rolled back run takes again.
    logged.define_metric("*", step_metric="step")
    with logged:
        yield lambda lines: logged.log({"step": lines[-1]["step"], **_figures(lines)})


@contextmanager
def trackio(run: Tracked) -> Iterator[Sink]:
    """Log to Trackio, in the project `jeat`, by default on this machine: `trackio show`."""
    import trackio as service

    name = f"{run.folder.name}-{run.identity}"
    about: dict[str, Any] = {"config": run.settings(), "resume": "allow", "embed": False}
    service.init(project="jeat", name=name, **about)
    try:
        yield lambda lines: service.log(_figures(lines), step=lines[-1]["step"])
    finally:
        service.finish()


def _figures(lines: Lines) -> dict[str, float]:
    return {name: value for name, value in lines[-1].items() if name != "step"}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed, and say what to install."""
    for name in names:
        package = TRACKERS.match(name)[0].package
        # A directory of that name, such as wandb's own, is found too, but has no origin.
        if getattr(find_spec(package), "origin", None) is None:
            raise JeatError(
                f"`--track {name}` needs the package `{package}`, which is not installed",
                f"run `pip install 'jeat-cli[{name}]'`",
            )


@dataclass
class Tracking(Callback):
    """Tell the trackers of each epoch; one that fails is left out, and the training goes on."""

    log: Path
    reporter: Reporter = SILENT
    sinks: dict[str, Sink] = field(default_factory=dict)

    @contextmanager
    def opened(self, trainer: Trainer) -> Iterator[None]:
        """Open the trackers of the run, and close them at its end."""
        config, folder = trainer.config, self.log.parent
        identities = _identities(folder, config.track)
        trackers = {TABLE: table, CURVES: curves, **{n: TRACKERS.load(n) for n in config.track}}
        with ExitStack() as held:
            for name, tracker in trackers.items():
                steps = (trainer.step, trainer.steps)
                manager = tracker(Tracked(folder, identities.get(name, ""), *steps, config))
                try:
                    with redirect_stdout(sys.stderr):
                        self.sinks[name] = manager.__enter__()
                except Exception as problem:
                    raise JeatError(f"`--track {name}` does not start: {problem}") from problem
                held.callback(self._guarded, name, partial(manager.__exit__, None, None, None))
            yield

    def on_epoch(self, trainer: Trainer) -> None:
        if self.sinks:
            lines = [line for _, line in read_log(self.log) if "event" not in line]
            for name, sink in [*self.sinks.items()]:
                self._guarded(name, partial(sink, lines))

    def _guarded(self, name: str, act: Callable[[], object]) -> None:
        try:
            with redirect_stdout(sys.stderr):
                act()
        except Exception as problem:
            if self.sinks.pop(name, None):
                self.reporter.warn(f"`{name}` is not kept up any more: {problem}")


def _identities(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return what each tracker knows the run by: as it was, or else new."""
    path, known = folder / IDENTITIES, {}
    with suppress(OSError, ValueError):
        known = dict(json.loads(path.read_text("utf-8")))
    found = {**{name: secrets.token_hex(4) for name in names}, **known}
    if found != known:
        write_atomic(path, lambda beside: beside.write_text(json.dumps(found) + "\n", "utf-8"))
    return found
