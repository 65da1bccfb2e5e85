"""The protocol of progress reports, and a reporter that is silent."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from ..errors import JeatWarning


class Bar(Protocol):
    """A running task."""

    def __call__(self, amount: float, **figures: float | str) -> None:
        """Count `amount` units, or parts of one, as done; show the latest `figures`."""


BarContext = AbstractContextManager[Bar]


class Reporter(Protocol):
    """A listener: the command line's terminal or log, or `Silent`."""

    def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> BarContext:
        """Open a bar of `total` units of which `done` are done already."""

    def say(self, text: str) -> None:
        """Report something worth knowing, one line."""

    def detail(self, text: str) -> None:
        """Report a detail that only `--verbose` shows, one line."""

    def warn(self, text: str) -> None:
        """Warn of something that may make a result wrong, one line."""


def ignore(amount: float, **figures: float | str) -> None:
    """Listen to nothing."""


class Silent:
    """The Python API's default listener: warn by Python's warnings, and say nothing else."""

    def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> BarContext:
        return nullcontext(ignore)

    def say(self, text: str) -> None:
        return None

    def detail(self, text: str) -> None:
        return None

    def warn(self, text: str) -> None:
        warnings.warn(text, JeatWarning, stacklevel=2)


class Watched(Silent):
    """Say nothing, and call a function whenever something advances: it may raise to stop that."""

    def __init__(self, watch: Callable[[], None]) -> None:
        self.watch = watch

    def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> BarContext:
        return nullcontext(lambda amount, **figures: self.watch())


SILENT: Reporter = Silent()
