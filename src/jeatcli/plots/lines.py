"""How curves of several runs are told apart: by dashes and marks as much as by colour."""

from __future__ import annotations

from typing import Any

# Okabe and Ito (2008): told apart by the colour-blind, in this order also in grey.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def line(index: int) -> dict[str, Any]:
    """Return the look of the curve of run `index`."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "linewidth": 1.4,
    }


def mark(index: int) -> dict[str, Any]:
    """Return the look of the point of run `index`."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKS[index % len(MARKS)],
        "markersize": 4.5,
    }


def tidy(axis: Any) -> None:
    """Leave the two axes that are read, and a light grid."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.grid(visible=True, linewidth=0.4, color="0.88")
    axis.set_axisbelow(True)
