"""A landscape as a picture."""

from pathlib import Path

from ..catalogue import Catalogue, Entry
from ..landscapes.landscape import Landscape
from .figure import save, styled
from .settings import PLAIN, PlotSettings

FIGURES = Catalogue(
    "figure",
    {
        "contour": Entry("Panels of contours, or surfaces", "jeatcli.plots.surface:draw_planes"),
        "histogram": Entry("Histograms", "jeatcli.plots.histogram:draw_histograms"),
        "path": Entry("Energies along two paths", "jeatcli.plots.path:draw_paths"),
        "sharpness": Entry("Rises with intervals", "jeatcli.plots.sharpness:draw_sharpness"),
    },
)


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
        UsageProblem: If the ending is another, or there is no such style.
        JeatError: If the file cannot be written.
    """
    settings = settings.with_changes(changes)
    with styled(settings):
        figure = FIGURES.load(landscape.kind)(landscape.result)
        return save(figure, Path(path), landscape.result.title, landscape.text(), settings)
