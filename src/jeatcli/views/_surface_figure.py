"""Planes as surfaces in three dimensions: height and colour are the energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..figure import Layout
from ._contour_figure import axis_labels, energy_label, name_panel, value_range

if TYPE_CHECKING:
    from ._contours import Contours

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
        name_panel(axis, panel)
    layout.colour_bar(figure, mesh, energy_label(found))
    across, up = axis_labels(found)
    layout.captions(figure, f"left to right: {across}\nfront to back: {up}", "", {})
    return figure
