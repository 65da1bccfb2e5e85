"""A landscape as a picture."""

from dataclasses import dataclass
from pathlib import Path

from ..catalogue import Catalogue, Entry
from ..errors import UsageProblem
from ..landscapes.landscape import Landscape
from .figure import save, styled
from .settings import PLAIN, PlotSettings


@dataclass(frozen=True)
class FigureEntry(Entry):
    """A row of the table of figures."""

    coloured: bool = False  # whether numbers are drawn by a colour map


FIGURES = Catalogue[Entry](
    "figure",
    {
        "contour": FigureEntry(
            "Panels of contours, or surfaces", "jeatcli.plots.surface:draw_planes", coloured=True
        ),
        "histogram": FigureEntry("Histograms", "jeatcli.plots.histogram:draw_histograms"),
        "path": FigureEntry("Energies along two paths", "jeatcli.plots.path:draw_paths"),
        "sharpness": FigureEntry("Rises with intervals", "jeatcli.plots.sharpness:draw_sharpness"),
    },
)


def check_colours(kind: str, path: Path, settings: PlotSettings) -> None:
    """Refuse a colour map, and dots per inch, for a figure of ours that has none.

    Raises:
        UsageProblem: If one of them would change nothing.
    """
    figure = FIGURES.get(kind)
    if not isinstance(figure, FigureEntry) or figure.coloured:
        return
    if settings.cmap is not None:
        raise UsageProblem(
            f"`--cmap` does nothing for `--kind {kind}`, which has no colour map", "leave it out"
        )
    settings.check_dots(path)


def draw(
    landscape: Landscape, path: Path | str, settings: PlotSettings = PLAIN, **changes: object
) -> Path:
    """Draw the landscape as PNG, SVG or PDF by the ending of `path`.

    Args:
        landscape: What to draw.
        path: The file to write.
        settings: The look of the picture.
        changes: Settings by name: `style`, `title`, `cmap`, `figsize`, `dpi`.

    Raises:
        UsageProblem: If the ending is another, there is no such style, or a setting does nothing.
        JeatError: If the file cannot be written.
    """
    settings = settings.with_changes(changes)
    path = Path(path)
    check_colours(landscape.kind, path, settings)
    with styled(settings):
        figure = FIGURES.load(landscape.kind)(landscape.result)
        return save(figure, path, landscape.result.title, landscape.text(), settings)
