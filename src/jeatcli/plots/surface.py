"""Planes as surfaces in three dimensions: height and colour are the energy."""

from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..landscapes.contour import ContourResult, Panel
from .contour import (
    STAR,
    STAR_LOOK,
    axis_labels,
    colour_bars,
    colour_scales,
    draw_contours,
    name_panel,
    panel_axes,
)
from .figure import plain_text

_ELEVATION, _AZIMUTH = 45, -58


def draw_planes(result: ContourResult) -> Any:
    """Lay out the panels, flat or in three dimensions as the settings say."""
    return draw_surfaces(result) if result.settings.surface else draw_contours(result)


def draw_surfaces(result: ContourResult) -> Any:
    """Lay out the panels on one scale of heights and colours, or each on its own."""
    figure, axes = panel_axes(result, subplot_kw={"projection": "3d"})
    meshes: list[Any] = []
    for axis, panel, norm in zip(axes, result.panels, colour_scales(result), strict=True):
        values, steps = result.shown(panel), panel.plane.axis.numpy()
        mesh = axis.plot_surface(
            steps[None, :],
            steps[:, None],
            values,
            cmap=rcParams["image.cmap"],
            norm=norm,
            rcount=len(steps),
            ccount=len(steps),
            linewidth=0,
            antialiased=False,
        )
        meshes.append(mesh)
        axis.set_zlim(norm.vmin, norm.vmax)
        axis.view_init(_ELEVATION, _AZIMUTH)
        axis.set_box_aspect(None, zoom=0.88)
        axis.locator_params(nbins=4)
        # None at the ends, which are side by side at a corner.
        span = panel.plane.span
        ticks = MaxNLocator(4, steps=(1, 2, 5, 10)).tick_values(-span, span)
        inner = [tick for tick in ticks if abs(tick) < 0.9 * span]
        axis.set(xticks=inner, yticks=inner)
        axis.tick_params(labelsize="x-small", pad=-2)
        _mark(axis, result, panel, values)
        name_panel(axis, panel)
    colour_bars(figure, axes, meshes, result)
    first, second = axis_labels(result)
    # The unit has a line of its own where a picture is narrower than all three.
    first = first.replace(" (", "\n(") if figure.get_figwidth() < 4.5 else first
    caption = f"left to right: {first}\nfront to back: {second}"
    figure.supxlabel(caption, fontsize="medium")
    return figure


def _mark(axis: Any, result: ContourResult, panel: Panel, values: NDArray[np.float64]) -> None:
    """Put the star on the image, with its number, and crosses on what the axes go toward."""
    # Else the surface hides the marks wherever its middle is nearer.
    axis.computed_zorder = False
    centre = 0.0 if result.settings.relative else panel.centre
    steps = panel.plane.axis.numpy()
    axis.plot([0], [0], [centre], marker="*", markersize=11, **STAR_LOOK)
    for name, a, b in panel.marks:
        if max(abs(a), abs(b)) <= panel.plane.span:
            height = values[abs(steps - b).argmin(), abs(steps - a).argmin()]
            axis.plot([a], [b], [height], marker="X", markersize=7, **STAR_LOOK)
            axis.text(a, b, height, f"  {plain_text(name)}", fontsize="small", zorder=7)
    image = f"test image {panel.image} ({plain_text(panel.label[:20])})"
    corner = {"transform": axis.transAxes, "va": "top"}
    axis.text2D(0.0, 1.0, image, fontsize="small", color=STAR, **corner)
