"""How figures look."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageProblem
from ..settings import Settings, setting

_STYLE = "Matplotlib style, by name or .mplstyle file, applied over ours"


def _look(text: str, default: Any = None, **about: Any) -> Any:
    return setting(default, text, section="Look of the picture", **about)


@dataclass(frozen=True)
class PlotSettings(Settings):
    """The look of a figure; a style is laid over ours, and the other settings over the style."""

    style: str | None = _look(_STYLE, metavar="STYLE", kind="style")
    title: str | None = _look("Title above the panels")
    label: tuple[str, ...] = _look(
        "Write NEW for OLD, a run or any other words of the picture; repeatable",
        metavar="OLD=NEW",
        multiple=True,
        default=(),
    )
    legend: bool | None = _look("Draw the legend", shown="yes")
    cmap: str | None = _look(
        "Matplotlib colour map (contour)",
        metavar="NAME",
        kind="colour map",
        shown="the style's, else magma",
    )
    figsize: tuple[float, float] | None = _look(
        "Width and height in inches",
        metavar="W H",
        shown="the style's, else by content",
        above=0,
        high=100,
    )
    dpi: int | None = _look(
        "Dots per inch of a PNG, and of the colours of a map in other files",
        shown="the style's, else 200",
        low=10,
        high=2400,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for words in self.label:
            if not words.partition("=")[0] or "=" not in words:
                raise UsageProblem(f"`{words}` is not of the form OLD=NEW")

    def check_dots(self, *files: Path | None, pixels: bool = False) -> None:
        """Refuse dots per inch where no file has them.

        Args:
            files: Those in which the figure is drawn; None is none.
            pixels: Whether a part of the figure is pixels in every kind of file.

        Raises:
            UsageProblem: If `dpi` would change nothing.
        """
        drawn = [file for file in files if file is not None]
        has_dots = pixels or any(file.suffix.lower() == ".png" for file in drawn)
        if self.dpi is not None and drawn and not has_dots:
            names = " and ".join(f"`{file}`" for file in drawn)
            raise UsageProblem(
                f"`--dpi` does nothing for {names}: this figure is lines and text, without pixels",
                "leave it out, or name a .png file",
            )


PLAIN = PlotSettings()
