"""Which sizes a figure may have: neither too small for its words, nor too large for the memory."""

import warnings
from typing import Any

from matplotlib import rcParams

from ..errors import PictureWarning, UsageProblem

# Pixels of a picture, of four bytes each.
_MOST_PIXELS = 250e6
# Inches by which nothing that is read reaches over an edge.
_SLACK = 0.03


def check_pixels(width: float, height: float) -> None:
    """Refuse a size in inches that would take all the memory, at the dots per inch of the style."""
    dpi = float(rcParams["figure.dpi"])
    if (pixels := width * height * dpi**2) > _MOST_PIXELS:
        raise UsageProblem(
            f"a picture of {width:.3g} x {height:.3g} inches at {dpi:g} dots per inch would have "
            f"{pixels / 1e6:,.0f} million pixels",
            f"lower `--figsize` or `--dpi`: at most {_MOST_PIXELS / 1e6:.0f} million are drawn",
        )


def warn_if_cut(figure: Any) -> None:
    """Warn if words reach over an edge of a figure that has been drawn."""
    drawn, whole = figure.get_tightbbox(), figure.bbox_inches
    over = (whole.x0 - drawn.x0, whole.y0 - drawn.y0, drawn.x1 - whole.x1, drawn.y1 - whole.y1)
    if max(over) > _SLACK:
        width, height = figure.get_size_inches()
        warnings.warn(
            f"{width:g} x {height:g} inches are too small for the words of the picture, some of "
            "which are cut off: choose a larger `--figsize`, or a smaller `font.size` by `--style`",
            PictureWarning,
            stacklevel=2,
        )
