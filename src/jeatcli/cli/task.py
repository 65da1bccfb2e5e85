"""What is told of work in progress: how much is done, how fast, how long it will take."""

import math
import time
from collections.abc import Mapping
from itertools import accumulate

from ..runtime import interrupts
from . import output

# A sum of parts may end so little below the whole.
_ROUNDING = 1e-6


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
    def is_done(self) -> bool:
        return self.done >= self.total - _ROUNDING

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    @property
    def rate(self) -> float:
        """Return units a second, 0 before anything is done.

        While the task runs, the first units do not count: they may have waited for a compilation.
        """
        done, seconds = self.begun, 0.0
        if self.first and self.first[0] < self.done and not self.is_done:
            done, seconds = self.first
        return (self.done - done) / max(self.seconds - seconds, 1e-9)

    def time_text(self) -> str:
        """Write the time left, or the time taken once all is done."""
        if self.is_done:
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
        count = f"{math.floor(self.done + _ROUNDING):,}/{self.total:,} {self.units}"
        return "  ".join((self.label, count, *self.parts()))

    def fitted(self, width: int) -> str:
        """Write as much of it as fits beside a bar."""
        texts = accumulate(self.parts(), "{}  {}".format)
        return max((text for text in texts if len(text) <= width), key=len, default="")


def clock(seconds: float) -> str:
    """Write a duration as `0:42` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
