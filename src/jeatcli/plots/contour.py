"""How a plane looks on paper: panels on one colour scale, darker where energy is lower.

Magma is perceptually uniform, rises monotonically in lightness (so it survives a grey printer)
and is told apart by the colour-blind; a blue star stands out on all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.threat import fraction
from .figure import Layout, figure_text, plain_text

if TYPE_CHECKING:
    from ..landscapes.contours import Contours, Panel

STAR = "#2a7fff"
FORMULAS = {"joint": "$E(x, y)$", "marginal": "$E(x)$", "ce": "$CE(x, y)$"}
# Contour lines over the shared scale, about.
_LEVELS = 10


def draw_contours(found: Contours) -> Any:
    """Lay out the panels, flat or in three dimensions as the settings say."""
    from .surface import surface_figure

    return surface_figure(found) if found.view.surface else contour_figure(found)


def contour_figure(found: Contours) -> Any:
    """Lay out the panels, one a run; of several images each has a row."""
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    shown = [found.shown(panel) for panel in found.panels]
    low, high = value_range(shown)
    norm, levels = Normalize(low, high), MaxNLocator(_LEVELS).tick_values(low, high)
    rows = len(found.view.image) > 1
    layout = Layout(len(shown), columns=found.runs if rows else None)
    figure = layout.figure()
    axes = layout.panels(figure)
    for axis, panel, values in zip(axes, found.panels, shown, strict=True):
        mesh = _plane(axis, panel, values, norm)
        _lines(axis, panel, values, norm, levels)
        _mark(axis, found, panel)
        name_panel(axis, panel)
    for axis, panel in zip(axes[:: found.runs], found.panels[:: found.runs], strict=True):
        _thumbnail(axis, panel)
    layout.colour_bar(figure, mesh, energy_label(found))
    across, up = axis_labels(found)
    layout.captions(figure, across, up, _legend(found))
    return figure


def energy_label(found: Contours) -> str:
    """Name what the colours, or the heights, are."""
    relative = " less that at the image" if found.view.relative else ""
    return FORMULAS[found.view.energy] + relative


def axis_labels(found: Contours) -> tuple[str, str]:
    """Name the two axes, and what a distance of 1 is."""
    size = {"rms": "per-pixel RMS", "l2": "in $\\ell_2$", "linf": "in $\\ell_\\infty$"}
    unit = f"units of {fraction(found.unit)} {size[found.view.unit_norm]}"
    names = {
        "random": ("direction 1", "direction 2"),
        "adversarial": ("toward the PGD example", "random direction"),
        "classes": ("toward the first sample", "second sample, orthogonal part"),
    }
    first, second = names[found.view.axes]
    return f"{first} ({unit})", second


def value_range(shown: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the ends of the one scale of all panels."""
    low = min(float(values.min()) for values in shown)
    high = max(float(values.max()) for values in shown)
    # A plane without any slope still needs two ends of a scale.
    slack = 0.5 * (high - low < 1e-9 * max(1.0, abs(high)))
    return low - slack, high + slack


def _plane(axis: Any, panel: Panel, values: NDArray[np.float64], norm: Any) -> Any:
    """Colour the plane; return what the colour bar needs."""
    span, grid = panel.plane.span, panel.plane.grid
    edge = span + span / (grid - 1)
    mesh = axis.imshow(
        values,
        origin="lower",
        extent=(-edge, edge, -edge, edge),
        cmap="magma",
        norm=norm,
        interpolation="bilinear",
    )
    axis.set_xlim(-span, span)
    axis.set_ylim(-span, span)
    axis.locator_params(nbins=4)
    return mesh


def _lines(axis: Any, panel: Panel, values: NDArray[np.float64], norm: Any, levels: Any) -> None:
    """Draw and label the contour lines: the shared levels, or finer ones on a flat panel."""
    chosen, style = _choose(values, levels)
    if not chosen:
        return
    inks = ["white" if norm(level) < 0.6 else "black" for level in chosen]
    steps = panel.plane.axis.numpy()
    drawn = axis.contour(
        steps, steps, values, levels=chosen, colors=inks, linewidths=0.6, linestyles=style
    )
    lines = [path.vertices for path in drawn.get_paths()]
    places = _label_places(lines, panel.plane.span, [(a, b) for _, a, b in panel.marks])
    if places:
        axis.clabel(drawn, fontsize=7, inline_spacing=2, manual=places, fmt=figure_text)


def _choose(values: NDArray[np.float64], levels: Any) -> tuple[list[float], str]:
    """Choose the levels to draw: the shared ones, or dashed finer ones where fewer than two fit."""
    from matplotlib.ticker import MaxNLocator

    low, high = float(values.min()), float(values.max())
    shared = [float(level) for level in levels if low < level < high]
    if len(shared) >= 2 or not high > low:
        return shared, "solid"
    finer = MaxNLocator(4).tick_values(low, high)
    return [float(level) for level in finer if low < level < high], "dashed"


def _label_places(
    lines: list[Any], span: float, marks: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Find a place for each line's label: off ball, thumbnail, edge, marks and each other."""
    places: list[tuple[float, float]] = []
    for line in lines:
        points = line[::2] / span
        clear = (np.hypot(*points.T) > max(0.35, 1.25 / span)) & (np.abs(points).max(1) < 0.85)
        clear &= (points > -0.35).any(1)
        candidates = points[clear]
        if (places or marks) and len(candidates):
            taken = np.array(marks + places) / span
            room = np.hypot(*(candidates[:, None] - taken).transpose(2, 0, 1)).min(1)
            candidates = candidates[room > 0.2]
        if len(candidates):
            middle = np.abs(np.hypot(*candidates.T) - 0.62).argmin()
            x, y = candidates[middle] * span
            places.append((float(x), float(y)))
    return places


def _mark(axis: Any, found: Contours, panel: Panel) -> None:
    """Outline the ball, put the star on the image and crosses on what the axes go toward."""
    from matplotlib.patches import Polygon

    angles = np.linspace(0, 2 * np.pi, 721)
    outline = panel.plane.section(found.ball.norm, found.ball.eps, angles)
    for ink, width, order in (("white", 2.0, 4), (STAR, 1.0, 5)):
        axis.add_patch(Polygon(outline, fill=False, edgecolor=ink, linewidth=width, zorder=order))
    star = {"markerfacecolor": STAR, "markeredgecolor": "white", "markeredgewidth": 0.7}
    axis.plot(0, 0, marker="*", markersize=11, zorder=6, **star)
    for name, a, b in panel.marks:
        axis.plot(a, b, marker="X", markersize=7, zorder=6, clip_on=True, **star)
        axis.annotate(
            plain_text(name),
            (a, b),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            zorder=7,
            annotation_clip=True,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "linewidth": 0, "alpha": 0.8},
        )


def name_panel(axis: Any, panel: Panel) -> None:
    """Put the run's name and its two numbers over the panel."""
    axis.set_title(plain_text(panel.label), pad=17)
    rise = "" if panel.rise is None else f", rise {figure_text(panel.rise, signed=True)}"
    axis.annotate(
        f"at the image {figure_text(panel.centre)}{rise}",
        (0.5, 1),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color="0.3",
    )


def _thumbnail(axis: Any, panel: Panel) -> None:
    """Inset the image at the lower left of the first panel of its row."""
    inset = axis.inset_axes((0.03, 0.03, 0.25, 0.25), zorder=7)
    show_image(inset, panel.plane.x.cpu().numpy())
    for spine in inset.spines.values():
        spine.set(color="white", linewidth=1.2)


def show_image(axis: Any, image: NDArray[Any]) -> None:
    """Show an image (C,H,W) in [0, 1] without ticks."""
    pixels = image.transpose(1, 2, 0)
    grey = pixels.shape[2] == 1
    axis.imshow(
        pixels[..., 0] if grey else pixels,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axis.set_xticks([])
    axis.set_yticks([])


def _legend(found: Contours) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    shown = [
        f"{index} ({plain_text(name[:20])})"
        for index, name in zip(found.view.image, found.labels, strict=True)
    ]
    what = "test image" if len(shown) == 1 else "test images"
    norm = {"linf": r"\infty", "l2": "2"}[found.ball.norm]
    ball = rf"ball $\|\delta\|_{norm} = {found.ball.eps:.3g}$"
    star = Line2D([], [], color=STAR, marker="*", markersize=9, linestyle="none")
    return {
        f"{what} {', '.join(shown)}": star,
        ball: Line2D([], [], color=STAR, linewidth=1.2),
    }
