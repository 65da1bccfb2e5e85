"""Planes as panels of contours, darker where the energy is lower; the image is a blue star."""

import math
from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..core.threat import fraction
from ..landscapes.contour import ContourResult, Panel
from .figure import NORMS, faint, figure_text, label_above, new_figure, plain_text

STAR = "#2a7fff"
STAR_LOOK: dict[str, Any] = {
    "linestyle": "none",
    "markerfacecolor": STAR,
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "zorder": 6,
}
_FORMULAS = {"joint": "$E(x, y)$", "marginal": "$E(x)$", "ce": r"$\mathrm{CE}(x, y)$"}
# Points between a contour line and its number.
_GAP = 2.5
# How far from its best place, in spans, a number goes to lie level and not upright.
_UPRIGHT = 0.3
# About how many contour lines a scale has; inches of a panel with its margins.
_LEVELS, _SIDE, _HEADER, _MARGIN = 10, 2.5, 0.3, 1.1


def draw_contours(result: ContourResult) -> Any:
    """Lay out the panels, one a run; of several images each has a row."""
    figure, axes = panel_axes(result, sharex=True, sharey=True)
    meshes = []
    for axis, panel, norm in zip(axes, result.panels, colour_scales(result), strict=True):
        values = result.shown(panel)
        meshes.append(_plane(axis, panel, values, norm))
        _lines(axis, panel, values, norm, MaxNLocator(_LEVELS).tick_values(norm.vmin, norm.vmax))
        _mark(axis, result, panel)
        name_panel(axis, panel)
    for axis, panel in zip(axes[:: result.runs], result.panels[:: result.runs], strict=True):
        # The image itself, at the lower left of the first panel of its row.
        inset = axis.inset_axes((0.03, 0.03, 0.25, 0.25), zorder=7)
        show_image(inset, panel.plane.x.cpu().numpy())
        inset.spines[:].set(color="white", linewidth=1.2)
    colour_bars(figure, axes, meshes, result)
    first, second = axis_labels(result)
    # Beside its own panels: a label of the whole figure lies over the numbers of a single column,
    # and far from the panels of a wide picture.
    for axis in axes[:: axes[0].get_subplotspec().get_gridspec().ncols]:
        axis.set_ylabel(second)
    legend = _legend(result)
    # The name of the axis is the legend's title: matplotlib would lay one over the other.
    placed = figure.legend(
        list(legend.values()),
        list(legend),
        # The unit, in parentheses, goes below: beside a long name it is wider than a panel.
        title=first.replace(" (", "\n(") if len(axes) == 1 else first,
        title_fontsize="medium",
        loc="outside lower center",
        ncols=len(legend),
        frameon=False,
    )
    placed.get_title().set_multialignment("center")
    return figure


def panel_axes(result: ContourResult, **settings: object) -> tuple[Any, list[Any]]:
    """Return a figure and the axes of its panels, a row for each image.

    Of one image up to four panels are in a row, as in the paper, and five and six in rows of
    three.
    """
    count, rows = len(result.panels), _rows(result)
    columns = math.ceil(count / rows)
    figure = new_figure(columns * _SIDE + _MARGIN, rows * (_SIDE + _HEADER) + 0.8)
    figure.set_layout_engine("compressed")
    axes = figure.subplots(rows, columns, squeeze=False, **settings)
    for axis in axes.flat[count:]:
        axis.remove()
    # The last panel of a column may be above an empty place, and has the labels all the same.
    for axis in axes.flat[count - columns : count] if "sharex" in settings else ():
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def _rows(result: ContourResult) -> int:
    count, images = len(result.panels), len(result.settings.image)
    return images if images > 1 else math.ceil(count / (count if count <= 4 else 3 + (count > 6)))


def colour_bars(figure: Any, axes: list[Any], meshes: list[Any], result: ContourResult) -> None:
    """Add the one colour bar, or one beside each panel; the last one is labelled."""
    if result.settings.scale == "shared":
        bars = [figure.colorbar(meshes[0], ax=axes, aspect=25 * _rows(result), fraction=0.03)]
    else:
        pairs = zip(meshes, axes, strict=True)
        bars = [figure.colorbar(mesh, ax=axis, fraction=0.046, pad=0.03) for mesh, axis in pairs]
    for bar in bars:
        bar.outline.set_linewidth(0.6)
        bar.ax.tick_params(length=3)
    label = energy_label(result)
    low = figure.get_figheight() < 3  # where the label is longer than the bar
    bars[-1].set_label(label.replace(" relative", "\nrelative") if low else label)


def colour_scales(result: ContourResult) -> list[Any]:
    """Return the scale of each panel: the one of all, or its own."""
    planes = [result.shown(panel) for panel in result.panels]
    shared = result.settings.scale == "shared"
    scales = []
    for plane in planes:
        values = np.stack(planes) if shared else plane
        low, high = float(values.min()), float(values.max())
        # A plane without any slope still needs two ends of a scale.
        slack = 0.5 * (high - low < 1e-9 * max(1.0, abs(high)))
        scales.append(Normalize(low - slack, high + slack))
    return scales


def energy_label(result: ContourResult) -> str:
    """Name what the colours, or the heights, are."""
    formula = _FORMULAS[result.settings.energy]
    return f"{formula} relative to the image" if result.settings.relative else formula


def axis_labels(result: ContourResult) -> tuple[str, str]:
    """Name the two axes, and what a distance of 1 is."""
    size = {"rms": "per-pixel RMS", "l2": "in $\\ell_2$", "linf": "in $\\ell_\\infty$"}
    unit = f"units of {fraction(result.unit)} {size[result.settings.unit_norm]}"
    names = {
        "random": ("direction 1", "direction 2"),
        "adversarial": ("toward the PGD example", "random direction"),
        "classes": ("toward the first sample", "second sample, orthogonal part"),
    }
    first, second = names[result.settings.axes]
    return f"{first} ({unit})", second


def _plane(axis: Any, panel: Panel, values: NDArray[np.float64], norm: Any) -> Any:
    """Colour the plane; return what the colour bar needs."""
    span, grid = panel.plane.span, panel.plane.grid
    edge = span + span / (grid - 1)
    extent = (-edge, edge, -edge, edge)
    mesh = axis.imshow(values, origin="lower", extent=extent, norm=norm, interpolation="bilinear")
    axis.set(xlim=(-span, span), ylim=(-span, span))
    axis.tick_params(length=3)
    axis.locator_params(nbins=4)
    axis.grid(visible=False)  # which some styles lay over the colours
    return mesh


def _lines(axis: Any, panel: Panel, values: NDArray[np.float64], norm: Any, levels: Any) -> None:
    """Draw and label the contour lines: the levels of the scale, or finer ones on a flat panel."""
    chosen, style = _choose(values, levels)
    if not chosen:
        return
    colours = colormaps[rcParams["image.cmap"]](norm(np.array(chosen)))[:, :3]
    inks = ["white" if rgb @ (0.299, 0.587, 0.114) < 0.5 else "black" for rgb in colours]
    steps = panel.plane.axis.numpy()
    lines = axis.contour(
        steps, steps, values, levels=chosen, colors=inks, linewidths=0.6, linestyles=style
    )
    vertices = [path.vertices for path in lines.get_paths()]
    points = _label_points(vertices, panel.plane.span, [(a, b) for _, a, b in panel.marks])
    if points:
        # In pixels: so much that a minus on an upright line is not taken for a part of it.
        gap = _GAP * axis.figure.dpi / 72
        look: dict[str, Any] = {"fontsize": "small", "inline_spacing": gap}
        axis.clabel(lines, manual=points, fmt=_level_texts(chosen), **look)


def _level_texts(levels: list[float]) -> dict[float, str]:
    """Write levels, which are round numbers, with the same decimals."""
    short = [f"{level:.3g}" for level in levels]
    if not any("e" in text for text in short):
        decimals = max(len(text.partition(".")[2]) for text in short)
        short = [f"{level:.{decimals}f}" for level in levels]
    return {level: text.replace("-", "−") for level, text in zip(levels, short, strict=True)}


def _choose(values: NDArray[np.float64], levels: Any) -> tuple[list[float], str]:
    """Choose the levels to draw: those given, or dashed finer ones where fewer than two fit."""
    low, high = float(values.min()), float(values.max())
    fitting = [float(level) for level in levels if low < level < high]
    if len(fitting) >= 2 or not high > low:
        return fitting, "solid"
    finer = MaxNLocator(4).tick_values(low, high)
    return [float(level) for level in finer if low < level < high], "dashed"


def _label_points(
    lines: list[Any], span: float, marks: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Find a point for each line's label, away from ball, thumbnail, edge, marks and each other.

    Rather where a line is level, for a number on an upright one is read with the head to one side.
    """
    labels: list[tuple[float, float]] = []
    for line in lines:
        points = line[::2] / span
        clear = (np.hypot(*points.T) > max(0.35, 1.25 / span)) & (np.abs(points).max(1) < 0.85)
        clear &= (points > -0.35).any(1)
        if labels or marks:
            taken = np.array(marks + labels) / span
            clear &= np.hypot(*(points[:, None] - taken).transpose(2, 0, 1)).min(1) > 0.2
        if clear.any():
            along = np.gradient(points, axis=0)
            steep = np.abs(along[:, 1]) / np.maximum(np.hypot(*along.T), 1e-12)
            cost = np.abs(np.hypot(*points.T) - 0.62) + _UPRIGHT * steep
            x, y = points[np.where(clear, cost, np.inf).argmin()] * span
            labels.append((float(x), float(y)))
    return labels


def _mark(axis: Any, result: ContourResult, panel: Panel) -> None:
    """Outline the ball, put the star on the image and crosses on what the axes go toward."""
    angles = np.linspace(0, 2 * np.pi, 721)
    outline = panel.plane.section(result.ball.norm, result.ball.eps, angles)
    for ink, width, order in (("white", 2.0, 4), (STAR, 1.0, 5)):
        axis.add_patch(Polygon(outline, fill=False, edgecolor=ink, linewidth=width, zorder=order))
    axis.plot(0, 0, marker="*", markersize=11, **STAR_LOOK)
    for name, a, b in panel.marks:
        axis.plot(a, b, marker="X", markersize=7, clip_on=True, **STAR_LOOK)
        look = label_above(6) | {"color": "black", "zorder": 7}
        text = axis.annotate(plain_text(name), (a, b), annotation_clip=True, **look)
        text.set_bbox({"boxstyle": "round,pad=0.15", "fc": "white", "lw": 0, "alpha": 0.8})


def name_panel(axis: Any, panel: Panel) -> None:
    """Put the run's name and its two numbers over the panel, on several lines if it is narrow."""
    grid = axis.get_subplotspec().get_gridspec()
    width, height = axis.figure.get_size_inches()
    # A panel is square.
    high = (height - 0.8) / grid.nrows - _HEADER
    narrow = min(width / grid.ncols, high) < 2.2
    # The first number with its words is as wide as this, in inches at the usual size.
    apart = min((width - _MARGIN) / grid.ncols, high + 0.1)
    words = "at the image\n" if apart < 1.1 * rcParams["font.size"] / 9 else "at the image "
    parts = [f"{words}{figure_text(panel.centre)}"]
    if panel.rise is not None:
        parts.append(f"rise {figure_text(panel.rise, signed=True)}")
    text = (",\n" if narrow else ", ").join(parts)
    lines = 1.25 + 0.95 * text.count("\n")
    axis.set_title(plain_text(panel.run.label), pad=6 + lines * rcParams["font.size"])
    look = label_above(5) | faint(0.7)
    note = axis.annotate(text, (0.5, 1), xycoords="axes fraction", **look)
    # The title reserves the height, and the layout must not take the width into account.
    note.set_in_layout(False)


def show_image(axis: Any, image: NDArray[Any]) -> None:
    """Show an image (C,H,W) in [0, 1] without ticks."""
    pixels = image.transpose(1, 2, 0)
    grey = pixels.shape[2] == 1
    look: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1} if grey else {}
    axis.imshow(pixels[..., 0] if grey else pixels, interpolation="nearest", **look)
    axis.set(xticks=[], yticks=[])


def _legend(result: ContourResult) -> dict[str, Any]:
    panels = result.panels[:: result.runs]
    shown = [f"{panel.image} ({plain_text(panel.label[:20])})" for panel in panels]
    what = "test image" if len(shown) == 1 else "test images"
    ball = rf"ball $\|\delta\|_{NORMS[result.ball.norm]} = {result.ball.eps:.3g}$"
    star = Line2D([], [], color=STAR, marker="*", markersize=9, linestyle="none")
    outline = Line2D([], [], color=STAR, linewidth=1.2)
    return {f"{what} {', '.join(shown)}": star, ball: outline}
