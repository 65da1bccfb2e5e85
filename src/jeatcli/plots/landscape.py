"""A landscape as a picture."""

from __future__ import annotations

from pathlib import Path

from ..catalogue import Catalogue, Entry
from ..landscapes.landscape import Landscape
from .figure import check_path, save, styled

FIGURES = Catalogue(
    "figure",
    {
        "contour": Entry("Panels of contours, or surfaces", "jeatcli.plots.contour:draw_contours"),
        "histogram": Entry("Histograms", "jeatcli.plots.histogram:histogram_figure"),
        "path": Entry("Energies along the way", "jeatcli.plots.path:path_figure"),
        "sharpness": Entry("Rises with intervals", "jeatcli.plots.sharpness:sharpness_figure"),
    },
)


def draw(landscape: Landscape, path: Path | str, style: str | None = None) -> Path:
    """Draw the landscape as PNG, SVG or PDF by the ending of `path`.

    Args:
        landscape: What to draw.
        path: The file to write.
        style: A style of matplotlib's, by name or file, over our own.

    Raises:
        UsageProblem: If the ending is another, or there is no such style.
        JeatError: If the file cannot be written.
    """
    check_path(path)
    with styled(style):
        figure = FIGURES.load(landscape.kind)(landscape.found)
        return save(figure, Path(path), landscape.found.title, landscape.text())
