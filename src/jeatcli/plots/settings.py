"""How figures look."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..settings import Settings, setting

_STYLE = "Matplotlib style, by name or .mplstyle file, applied over ours"
_look = partial(setting, None, section="Look of the picture")


@dataclass(frozen=True)
class PlotSettings(Settings):
    """The look of a figure; a style is laid over ours, and the other settings over the style."""

    style: str | None = _look(_STYLE, metavar="STYLE")
    title: str | None = _look("Title above the panels")
    cmap: str | None = _look(
        "Matplotlib colour map", metavar="NAME", shown="the style's, else magma"
    )
    figsize: tuple[float, float] | None = _look(
        "Width and height in inches",
        metavar="W H",
        shown="the style's, else by content",
        above=0,
        high=100,
    )
    dpi: int | None = _look(
        "Dots per inch of a PNG", shown="the style's, else 200", low=10, high=2400
    )


PLAIN = PlotSettings()
