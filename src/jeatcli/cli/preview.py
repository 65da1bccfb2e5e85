"""A picture in the terminal, by rich: two pixels a character."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.style import Style
from rich.text import Text

from ..runtime import launch
from .terminal import is_terminal

if TYPE_CHECKING:
    from PIL.Image import Image


def show(picture: Image) -> None:
    """Show a picture, as wide as the terminal at most; do nothing where there is none."""
    if not (launch.first() and sys.stdout and sys.stdout.isatty() and is_terminal()):
        return
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
