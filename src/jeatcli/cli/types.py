"""The types of the parameters: they check what can be checked without torch, and complete it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click
from click.shell_completion import CompletionItem

from ..catalogue import Catalogue
from ..checkpoints import naming, runs
from ..checkpoints.header import read_header
from ..checkpoints.hub import is_hub
from ..core.models import ARCHITECTURES
from ..data.facts import DATASETS, OWN, dataset_facts
from ..errors import JeatError, UsageProblem
from ..landscapes import KINDS
from ..methods import METHODS
from ..robustness.attacks import summaries as attacks
from ..robustness.attacks import unknown_attack
from ..sampling.settings import INITIALIZERS, SAMPLERS
from ..scoring.settings import EXTRACTORS, METRICS
from ..settings import Setting
from ..training import presets
from ..training.settings import TRACKERS

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic from click 8.5 on


def starting(incomplete: str, names: Mapping[str, str]) -> list[CompletionItem]:
    """Return the names that begin so, with their summaries."""
    return [
        CompletionItem(name, help=summary)
        for name, summary in names.items()
        if name.startswith(incomplete)
    ]


class Name(ParamType):
    """A name out of a list that is known without importing torch.

    `name` says what it is a name of, for the error; `known` returns the names and a summary of
    each; `check` raises if a value is none of them.
    """

    def __init__(
        self, name: str, known: Callable[[], dict[str, str]], check: Callable[[str], object]
    ) -> None:
        self.name, self.known, self.check = name, known, check

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the name in lower case, or raise the did-you-mean."""
        text = str(value)
        text = text if ":" in text else text.lower()
        self.check(text)
        return text

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        return starting(incomplete, self.known())


class Look(Name):
    """A name that matplotlib knows, or a file; it is looked up when the figure is drawn."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        return str(value)

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        names = super().shell_complete(ctx, param, incomplete)
        return names or [CompletionItem(incomplete, type="file")]


def _known_to_plots(names: str) -> dict[str, str]:
    return dict.fromkeys(getattr(import_module("jeatcli.plots.figure"), names)(), "")


def archs() -> dict[str, str]:
    """Return the architectures and their summaries, a usual size for each placeholder."""
    return {
        name.replace("-D-W", "-28-10").replace("-N", "-20"): summary
        for name, summary in ARCHITECTURES.summaries().items()
    }


def datasets() -> dict[str, str]:
    """Return the data sets and their summaries."""
    return DATASETS.summaries() | OWN


def _check_attack(name: str) -> None:
    if name not in attacks():
        raise unknown_attack(name)


def _check_metric(name: str) -> None:
    if name in _ALWAYS:
        known = ", ".join(METRICS)
        raise UsageProblem(f"`{name}` is always computed", f"leave it out; `--metric` adds {known}")
    METRICS.match(name)


# The scores that need no `--metric`, as they may be asked for.
_ALWAYS = ("fid", "kid", "is", "isc", "inception-score", "precision", "recall", "prc")
PRESET = Name("preset", presets.PRESETS.summaries, presets.file)


class Whole(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the number; the error has the bounds in words, not click's `1<=x<=100`."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"`{value}` is not a {self.name}", param, ctx)
        low, high = self.min, self.max
        if (low is not None and number < low) or (high is not None and number > high):
            bounds = f"at least {low:,}" if high is None else f"from {low or 0:,} to {high:,}"
            self.fail(f"must be {bounds}, not {value}", param, ctx)
        return number


class Number(ParamType):
    """A finite number, or a fraction such as 8/255, within the bounds of a setting."""

    name = "number"

    def __init__(self, about: Setting) -> None:
        self.about = about

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            number = value if isinstance(value, float) else self.about.read(str(value))
        except ValueError as problem:
            several = getattr(param, "nargs", 1) > 1
            fix = f"; write `{param.opts[0]} {param.metavar}`" if several else ""
            self.fail(f"{problem}{fix}", param, ctx)
        if not self.about.allows(number):
            self.fail(f"must be {self.about.bounds(number)}, not {value}", param, ctx)
        return number


class Duration(ParamType):
    """A time such as 90s, 30m, 1.5h or 2d, in seconds."""

    name = "time"
    _UNITS: ClassVar[dict[str, float]] = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        text = str(value).strip().lower()
        number = text[:-1] if text[-1:] in self._UNITS else ""
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", number) or not float(number):
            self.fail(f"{value} is not a time such as 90s, 30m, 1.5h or 2d", param, ctx)
        return float(number) * self._UNITS[text[-1]]


class Numbers(ParamType):
    """Numbers separated by commas, one for each channel or one for all, such as .5,.5,.5."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        parts = value if isinstance(value, tuple) else str(value).split(",")
        return tuple(FRACTION.convert(part, param, ctx) for part in parts)


FRACTION = Number(Setting("", low=0))
NUMBERS = Numbers()
SHARE = Number(Setting("", low=0, high=1))


_DEVICES = ("auto", "cpu", "cuda", "mps")


class Device(Name):
    """The name of a device; torch says whether it exists."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        return super().convert(str(value).lower(), param, ctx)


def _check_device(name: str) -> None:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        known = "known: auto, cpu, cuda, cuda:N (N from 0), mps"
        raise UsageProblem(f"unknown device `{name}`", known)


class Run(ParamType):
    """A run by name or path, which is looked up when it is opened."""

    name = "run"

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer the runs, or files where there is a slash or no such run."""
        names = starting(incomplete, dict.fromkeys(runs.names(), ""))
        path = "/" in incomplete or not names
        return [CompletionItem(incomplete, type="file")] if path else names


class Judge(Run):
    """A network by whose features images are scored: a published one, or a run."""

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer the published networks and the runs; after `clip:`, files."""
        found = super().shell_complete(ctx, param, incomplete)
        return starting(incomplete, EXTRACTORS.summaries()) + found


class Images(ParamType):
    """A data set, or a folder or archive of images, which is looked up when it is read."""

    name = "images"

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer the data sets, or files where none begins so."""
        return starting(incomplete, datasets()) or [CompletionItem(incomplete, type="file")]


class ClassOfRun(ParamType):
    """A class by name or index, which the RUN looks up."""

    name = "class"

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer the classes of the RUN on the command line, or of the latest one."""
        if is_hub(ctx.params.get("run")):
            return []  # nothing is downloaded on Tab
        try:
            classes = read_header(runs.resolve(ctx.params.get("run"))).get("classes", [])
        except (JeatError, OSError):
            return []
        return starting(incomplete, dict.fromkeys((*map(str, classes), "all"), ""))


class Picture(ParamType):
    """A picture, or the number of a test image; `./7` is a file whose name is a number."""

    name = "picture"
    _most_digits = 12
    _file = click.Path(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Path | int:
        text = str(value)
        if text.isascii() and text.isdecimal() and len(text) <= self._most_digits:
            return int(text)
        return Path(str(self._file.convert(value, param, ctx)))

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


RUN = Run()


def _row_of(table: Catalogue[Any]) -> Name:
    return Name(table.kind, table.summaries, table.match)


# What reads the text of a setting whose type does not say it.
BY_KIND: dict[str, ParamType] = {
    "arch": Name("architecture", archs, naming.check_arch),
    "network": Name("network", archs, naming.check_network),
    "attack": Name("attack", attacks, _check_attack),
    "class": ClassOfRun(),
    "dataset": Name("data set", datasets, dataset_facts),
    "device": Device("device", lambda: dict.fromkeys(_DEVICES, ""), _check_device),
    "directory": click.Path(file_okay=False, path_type=Path),
    "init": _row_of(INITIALIZERS),
    "picture": Picture(),
    "sampler": _row_of(SAMPLERS),
    "style": Look("style", partial(_known_to_plots, "styles"), str),
    "colour map": Look("colour map", partial(_known_to_plots, "colour_maps"), str),
    "images": Images(),
    "features": Judge(),
    "existing file": click.Path(exists=True, dir_okay=False, path_type=Path),
    "kind": _row_of(KINDS),
    "method": _row_of(METHODS),
    "metric": Name("metric", METRICS.summaries, _check_metric),
    "path": click.Path(path_type=Path),
    "run": RUN,
    "time": Duration(),
    "tracker": _row_of(TRACKERS),
}
# What stands for the value in the help, where it is not the kind in capitals.
METAVARS = {"directory": "DIR", "existing file": "FILE", "features": "RUN", "init": "START"}
METAVARS["picture"] = "IMAGE|N"
