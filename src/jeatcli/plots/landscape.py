"""A landscape as a picture."""

from __future__ import annotations

from pathlib import Path

from ..landscapes.landscape import Landscape
from .figure import check_path, save, styled


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
        figure = landscape.found.figure()
        return save(figure, Path(path), landscape.found.title, landscape.text())
