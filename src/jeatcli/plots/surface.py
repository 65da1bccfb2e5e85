"""Planes as surfaces in three dimensions: height and colour are the energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .contour import STAR, axis_labels, energy_label, name_panel, value_range
from .figure import Layout, plain_text

if TYPE_CHECKING:
    from ..landscapes.contours import Contours, Panel

_ELEVATION, _AZIMUTH = 32, -58


def surface_figure(found: Contours) -> Any:
    """Lay out the panels on one scale of heights and colours."""
    from matplotlib.colors import Normalize

    shown = [found.shown(panel) for panel in found.panels]
    low, high = value_range(shown)
    rows = len(found.view.image) > 1
    layout = Layout(len(shown), columns=found.runs if rows else None)
    figure = layout.figure()
    axes = layout.panels(figure, projection="3d")
    for axis, panel, values in zip(axes, found.panels, shown, strict=True):
        steps = panel.plane.axis.numpy()
        mesh = axis.plot_surface(
            steps[None, :],
            steps[:, None],
            values,
            cmap="magma",
            norm=Normalize(low, high),
            rcount=len(steps),
            ccount=len(steps),
            linewidth=0,
            antialiased=False,
        )
        axis.set_zlim(low, high)
        axis.view_init(_ELEVATION, _AZIMUTH)
        axis.set_box_aspect(None, zoom=1.2)
        axis.locator_params(nbins=4)
        axis.tick_params(labelsize=6, pad=-3)
        # The colour bar has the heights.
        axis.set_zticklabels([])
        _mark(axis, found, panel, values)
        name_panel(axis, panel)
    layout.colour_bar(figure, mesh, energy_label(found))
    across, up = axis_labels(found)
    layout.captions(figure, f"left to right: {across}\nfront to back: {up}", "", {})
    return figure


def _mark(axis: Any, found: Contours, panel: Panel, values: NDArray[np.float64]) -> None:
    """Put the star on the image, and say which it is; crosses on what the axes go toward."""
    # Else what lies on the surface is hidden wherever its middle is nearer.
    axis.computed_zorder = False
    ink = {"markerfacecolor": STAR, "markeredgecolor": "white", "markeredgewidth": 0.7}
    centre = 0.0 if found.view.relative else panel.centre
    axis.plot([0], [0], [centre], marker="*", markersize=11, zorder=6, **ink)
    steps = panel.plane.axis.numpy()
    for name, a, b in panel.marks:
        if max(abs(a), abs(b)) <= panel.plane.span:
            height = values[abs(steps - b).argmin(), abs(steps - a).argmin()]
            axis.plot([a], [b], [height], marker="X", markersize=7, zorder=6, **ink)
            axis.text(a, b, height, f"  {plain_text(name)}", fontsize=7, zorder=7)
    label = found.labels[found.view.image.index(panel.image)]
    axis.text2D(
        0.0,
        1.0,
        f"test image {panel.image} ({plain_text(label[:20])})",
        transform=axis.transAxes,
        va="top",
        fontsize=7,
        color=STAR,
    )
