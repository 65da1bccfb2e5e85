"""How a landscape looks on paper: panels on one colour scale, darker where energy is lower.

Magma is perceptually uniform, rises monotonically in lightness (so it survives a grey printer)
and is told apart by the colour-blind; a blue star stands out on all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .figure import STYLE, Layout
from .threat import fraction

if TYPE_CHECKING:
    from .landscape import Landscape
    from .plane import Panel

_STAR = "#2a7fff"
# Contour lines over the shared scale, about.
_LEVELS = 10


def contour_figure(landscape: Landscape) -> Any:
    """Lay out `landscape` as a matplotlib Figure, one panel a run."""
    import matplotlib
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    shown = [_shown(landscape, panel) for panel in landscape.panels]
    low, high = _range(shown)
    norm, levels = Normalize(low, high), MaxNLocator(_LEVELS).tick_values(low, high)
    layout = Layout(len(shown))
    with matplotlib.rc_context(STYLE):
        figure = layout.figure()
        axes = layout.panels(figure)
        for axis, panel, values in zip(axes, landscape.panels, shown, strict=True):
            mesh = _plane(axis, landscape, values, norm)
            _lines(axis, landscape, values, norm, levels)
            _mark(axis)
            _name(axis, landscape, panel)
        _thumbnail(axes[0], landscape)
        relative = " less that at the image" if landscape.relative else ""
        layout.colour_bar(figure, mesh, f"$E(x, y)${relative}")
        unit = f"direction 1 (units of {fraction(landscape.unit)} per-pixel RMS)"
        layout.captions(figure, unit, "direction 2", _legend(landscape))
    return figure


def _shown(landscape: Landscape, panel: Panel) -> NDArray[np.float64]:
    return panel.energies - panel.centre if landscape.relative else panel.energies


def _range(shown: list[NDArray[np.float64]]) -> tuple[float, float]:
    low = min(float(values.min()) for values in shown)
    high = max(float(values.max()) for values in shown)
    # A plane without any slope still needs two ends of a scale.
    slack = 0.5 * (high - low < 1e-9 * max(1.0, abs(high)))
    return low - slack, high + slack


def _plane(axis: Any, landscape: Landscape, values: NDArray[np.float64], norm: Any) -> Any:
    """Colour the plane; return what the colour bar needs."""
    steps = landscape.axis
    span, half = steps[-1], (steps[1] - steps[0]) / 2
    edge = span + half
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


def _lines(
    axis: Any, landscape: Landscape, values: NDArray[np.float64], norm: Any, levels: Any
) -> None:
    """Draw and label the contour lines: the shared levels, or finer ones on a flat panel."""
    chosen, style = _choose(values, levels)
    if not chosen:
        return
    inks = ["white" if norm(level) < 0.6 else "black" for level in chosen]
    steps = landscape.axis
    drawn = axis.contour(
        steps, steps, values, levels=chosen, colors=inks, linewidths=0.6, linestyles=style
    )
    places = _label_places([path.vertices for path in drawn.get_paths()], float(steps[-1]))
    if places:
        axis.clabel(drawn, fontsize=7, inline_spacing=2, manual=places, fmt=_figure)


def _choose(values: NDArray[np.float64], levels: Any) -> tuple[list[float], str]:
    """Choose the levels to draw: the shared ones, or dashed finer ones where fewer than two fit."""
    from matplotlib.ticker import MaxNLocator

    low, high = float(values.min()), float(values.max())
    shared = [float(level) for level in levels if low < level < high]
    if len(shared) >= 2 or not high > low:
        return shared, "solid"
    finer = MaxNLocator(4).tick_values(low, high)
    return [float(level) for level in finer if low < level < high], "dashed"


def _label_places(lines: list[Any], span: float) -> list[tuple[float, float]]:
    """Find a place for each line's label: off the ball, the thumbnail, the edge and each other."""
    places: list[tuple[float, float]] = []
    for line in lines:
        points = line[::2] / span
        clear = (np.hypot(*points.T) > max(0.35, 1.25 / span)) & (np.abs(points).max(1) < 0.85)
        clear &= (points > -0.35).any(1)
        candidates = points[clear]
        if places and len(candidates):
            taken = np.array(places) / span
            room = np.hypot(*(candidates[:, None] - taken).transpose(2, 0, 1)).min(1)
            candidates = candidates[room > 0.2]
        if len(candidates):
            middle = np.abs(np.hypot(*candidates.T) - 0.62).argmin()
            x, y = candidates[middle] * span
            places.append((float(x), float(y)))
    return places


def _mark(axis: Any) -> None:
    """Outline the ball and put the star on the image."""
    from matplotlib.patches import Circle

    axis.add_patch(Circle((0, 0), 1, fill=False, edgecolor="white", linewidth=2.0, zorder=4))
    axis.add_patch(Circle((0, 0), 1, fill=False, edgecolor=_STAR, linewidth=1.0, zorder=5))
    axis.plot(
        0,
        0,
        marker="*",
        markersize=11,
        markerfacecolor=_STAR,
        markeredgecolor="white",
        markeredgewidth=0.7,
        zorder=6,
    )


def _name(axis: Any, landscape: Landscape, panel: Panel) -> None:
    """Put the method, or the run where methods repeat, and its two numbers over the panel."""
    methods = [other.method for other in landscape.panels]
    name = panel.method if methods.count(panel.method) == 1 else panel.name
    axis.set_title(_plain(name if len(name) <= 24 else f"{name[:23]}…"), pad=17)
    rise = landscape.rise(panel)
    axis.annotate(
        f"at the image {_figure(panel.centre)}"
        + ("" if rise is None else f", rise {_figure(rise, signed=True)}"),
        (0.5, 1),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color="0.3",
    )


def _thumbnail(axis: Any, landscape: Landscape) -> None:
    """Inset the image at the lower left of the first panel."""
    inset = axis.inset_axes((0.03, 0.03, 0.25, 0.25), zorder=7)
    pixels = landscape.image.transpose(1, 2, 0)
    grey = pixels.shape[2] == 1
    inset.imshow(
        pixels[..., 0] if grey else pixels,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    inset.set_xticks([])
    inset.set_yticks([])
    for spine in inset.spines.values():
        spine.set(color="white", linewidth=1.2)


def _legend(landscape: Landscape) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    name = _plain(landscape.classes[landscape.label][:20])
    ball = rf"ball $\|\delta\|_2 = {landscape.radius:.3g}$"
    return {
        f"test image {landscape.index}, class {name}": Line2D(
            [], [], color=_STAR, marker="*", markersize=9, linestyle="none"
        ),
        ball: Line2D([], [], color=_STAR, linewidth=1.2),
    }


def _plain(text: str) -> str:
    """Keep matplotlib from reading a name as a formula."""
    return text.replace("$", r"\$")


def _figure(value: float, signed: bool = False) -> str:
    """Write an energy with three significant digits and a true minus."""
    text = f"{value:+.3g}" if signed else f"{value:.3g}"
    return text.replace("-", "−")
