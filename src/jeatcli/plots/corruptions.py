"""The heat map of accuracy over corruption and severity."""

import math
from pathlib import Path

from ..scoring.corruptions import SEVERITIES, Corrupted
from .figure import new_figure, plain_text, save, styled
from .settings import PLAIN, PlotSettings


def save_heat_map(found: Corrupted, path: Path, title: str, settings: PlotSettings = PLAIN) -> Path:
    """Draw the accuracy in per cent, a row for each corruption."""
    rows = [[100 * value for value in row] for row in found.accuracy.values()]
    with styled(settings):
        figure = new_figure(3.6, 4.6)
        axis = figure.add_subplot()
        image = axis.imshow(rows, vmin=0, vmax=100, cmap="cividis", aspect="auto")
        axis.set_xticks(range(len(SEVERITIES)), SEVERITIES)
        axis.set_yticks(range(len(rows)), [_name(kind) for kind in found.accuracy])
        axis.set_xlabel("severity")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        for y, row in enumerate(rows):
            for x, value in enumerate(row):
                # Whichever stands out more from its field.
                colour = "white" if value < 46 else "black"
                # Halves up, not to the even number as Python writes them.
                text = f"{math.floor(value + 0.5 + 1e-9)}"
                axis.text(x, y, text, ha="center", va="center", fontsize="small", color=colour)
        axis.set_title(f"{plain_text(title)}\nmean error {100 * found.mean_error:.1f} %")
        figure.colorbar(image, ax=axis, label="accuracy (%)", aspect=30)
        about = f"mean corruption error {found.mean_error:.4f}"
        return save(figure, path, f"Corruptions of {title}", about, settings)


def _name(kind: str) -> str:
    """Write a corruption as in print: `Gaussian noise`, `JPEG compression`."""
    return kind.replace("_", " ").replace("gaussian", "Gaussian").replace("jpeg", "JPEG")
