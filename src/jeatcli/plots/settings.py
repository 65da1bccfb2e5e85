"""How figures look."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings, setting

_PICTURE = "Look of the picture"


@dataclass(frozen=True)
class PlotSettings(Settings):
    """The look of a figure; a style is laid over ours, and the other settings over the style."""

    style: str | None = setting(
        None,
        "Style of matplotlib's, by name or .mplstyle file, over ours",
        section=_PICTURE,
        metavar="STYLE",
    )
    title: str | None = setting(None, "Title above the panels", section=_PICTURE, metavar="TEXT")
    cmap: str | None = setting(
        None,
        "Colour map, by matplotlib's name",
        section=_PICTURE,
        metavar="NAME",
        shown="the style's, else magma",
    )
    figsize: tuple[float, float] | None = setting(
        None,
        "Width and height in inches",
        section=_PICTURE,
        metavar="W H",
        shown="the style's, else by content",
        above=0,
        high=100,
    )
    dpi: int | None = setting(
        None,
        "Dots per inch of a PNG",
        section=_PICTURE,
        metavar="N",
        shown="the style's, else 200",
        low=10,
        high=2400,
    )


PLAIN = PlotSettings()
