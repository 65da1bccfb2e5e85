"""The reliability diagram."""

from pathlib import Path
from typing import Any

from ..scoring.calibration import Calibration
from .figure import COLOURS, legend_below, new_figure, plain_text, save, styled
from .settings import PLAIN, PlotSettings

_BAR = "#9ec3e6"
# With an edge, so that it is seen on dark ground too.
_POINT: dict[str, Any] = {
    "label": "mean confidence of a bin",
    "linestyle": "none",
    "marker": "o",
    "markersize": 4,
    "markerfacecolor": "black",
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
}


def save_diagram(
    calibration: Calibration, path: Path, title: str, settings: PlotSettings = PLAIN
) -> Path:
    """Draw the reliability diagram: accuracy over confidence, the share of images below."""
    left, width = calibration.edges[:-1], calibration.edges[1] - calibration.edges[0]
    edge: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.5}
    filled = [k for k, count in enumerate(calibration.counts) if count]
    points = [(calibration.confidence[k], calibration.accuracy[k]) for k in filled]
    total = sum(calibration.counts)
    with styled(settings):
        figure = new_figure(3.2, 4.1)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.bar(left, [value or 0.0 for value in calibration.accuracy], width, color=_BAR, **edge)
        # Points at 0 and 1 are whole, not cut by the frame.
        upper.plot(*zip(*points, strict=True), **_POINT, clip_on=False)
        upper.plot([0, 1], [0, 1], color=COLOURS[1], linewidth=1.2, label="perfect calibration")
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        legend_below(figure, upper.get_legend_handles_labels())
        upper.set_title(f"{plain_text(title)}\nECE {100 * calibration.ece:.2f} %")
        lower.bar(left, [count / total for count in calibration.counts], width, color="0.7", **edge)
        lower.set(xlabel="confidence", ylabel="share of\nimages", ylim=(0, None))
        about = f"ECE {calibration.ece:.4f}"
        return save(figure, path, f"Reliability of {title}", about, settings)
