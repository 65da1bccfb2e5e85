"""Choices of how a network is computed, on an imagined processor."""

from __future__ import annotations

from helpers.runs import Listener
from jeatcli.acceleration.dispatch import choose
from jeatcli.acceleration.ways import Way, Wish, Work

SHAPE = (3, 32, 32)
MUCH, LITTLE = Work(SHAPE, 8, 1e5), Work(SHAPE, 8, 1000)
AUTO = Wish()
EAGER = Wish(compiled=False)
# Seconds of an image by way.
Clock = dict[str, float]
# The ways whose seconds were asked for, once a round.
asked: list[str] = []


class Details(Listener):
    """Keep the details too."""

    def __init__(self) -> None:
        super().__init__()
        self.details: list[str] = []

    def detail(self, text: str) -> None:
        self.details.append(text)


def chosen(model, work: Work = MUCH, wish: Wish = EAGER) -> tuple[Way, str]:
    """Return the choice and what was told of it."""
    listener = Details()
    asked.clear()
    way = choose(model, None, work, wish, listener)
    return way, "".join(listener.details)
