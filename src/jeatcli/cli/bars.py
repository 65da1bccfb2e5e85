"""The bars of a terminal, by rich, which is imported only where there is one."""

import math

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live_render import LiveRender
from rich.progress import BarColumn, Progress, TextColumn


class _Reflowed(LiveRender):
    """Bars that erase all rows into which a terminal breaks them when it is made narrower."""

    def __init__(self, bars: RenderableType, console: Console) -> None:
        super().__init__(bars)
        self.console = console

    def position_cursor(self) -> Control:
        drawn = self._shape
        if drawn is not None:
            self._shape = drawn[0], drawn[1] * max(1, math.ceil(drawn[0] / self.console.width))
        control = super().position_cursor()
        self._shape = drawn
        return control


def new_bars() -> Progress:
    """Return the bars of stderr, none yet: each has its label before it and its detail after it."""
    console = Console(stderr=True, highlight=False)
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_bar_width(console.width)),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
    )
    bars.live._live_render = _Reflowed(bars.get_renderable(), console)
    return bars


def room_for_detail(bars: Progress, label: str) -> int:
    """Return the columns that a label and its bar leave on their line."""
    return bars.console.width - len(label) - _bar_width(bars.console.width) - 2


def _bar_width(width: int) -> int:
    return 24 if width >= 100 else 12
