"""Pictures in a dark style, and their numbers."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.runs import load_run
from matplotlib import rcParams
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.text import Text

from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.plots import figure
from jeatcli.plots.landscape import FIGURES
from jeatcli.plots.settings import PlotSettings

VIEWS: dict[str, dict[str, Any]] = {
    "contour": {"grid": 5, "axes": "adversarial"},
    "histogram": {"kind": "histogram", "num": 4},
    "path": {"kind": "path", "num": 4, "steps": 3, "beyond": 2, "chain": 3},
    "sharpness": {"kind": "sharpness", "num": 4, "directions": 2},
}


def lightness(artist: Any) -> float:
    """Return how light a text or a line is on black ground."""
    red, green, blue, opaque = to_rgba(artist.get_color(), artist.get_alpha())
    return (0.3 * red + 0.6 * green + 0.1 * blue) * opaque


@pytest.mark.parametrize("view", VIEWS)
def test_all_is_read_on_black(view: str) -> None:
    landscape = energy_landscape([load_run("run"), load_run("two", seed=1)], **VIEWS[view])
    with figure.styled(PlotSettings(style="dark_background")):
        drawing = FIGURES.load(landscape.kind)(landscape.result)
        # Numbers of contour lines and names in boxes have a ground of their own.
        on_planes = {text for axis in drawing.axes if axis.images for text in axis.texts}
        texts = [
            text
            for text in drawing.findobj(Text)
            if text.get_text() and (text not in on_planes or "rise" in text.get_text())
        ]
        lines = [each for axis in drawing.axes if not axis.images for each in axis.lines]
        assert [each for each in [*texts, *lines] if lightness(each) < 0.25] == []
        grids = [each for axis in drawing.axes for each in axis.get_xgridlines()]
        assert all(lightness(each) < 0.2 for each in grids if each.get_visible())
        for text in on_planes:
            if (box := text.get_bbox_patch()) is not None:
                assert abs(sum(to_rgb(text.get_color())) - sum(box.get_facecolor()[:3])) > 2


def test_the_first_run_is_black_on_white() -> None:
    with figure.styled():
        assert figure.line(0)["color"] == figure.mark(7)["color"] == rcParams["text.color"]
        assert to_rgb(figure.line(0)["color"]) == (0, 0, 0)
        assert figure.line(1)["color"] == figure.mark(8)["color"] == figure.COLOURS[1]


@pytest.mark.parametrize(
    ("value", "signed", "written"),
    [
        (-2.1, False, "−2.10"),
        (13.0, False, "13.0"),
        (130.2, False, "130"),
        (0.51, True, "+0.510"),
        (-0.0004, True, "−0.000400"),
    ],
)
def test_a_measured_number_has_three_digits(value: float, signed: bool, written: str) -> None:
    assert figure.figure_text(value, signed=signed) == written


def test_a_level_is_a_round_number() -> None:
    landscape = energy_landscape([load_run("run")], grid=5)
    with figure.styled():
        drawing = FIGURES.load("contour")(landscape.result)
    labels = [text.get_text() for text in drawing.axes[0].texts]
    levels = [label for label in labels if label.removeprefix("−").replace(".", "").isdigit()]
    assert levels
    # With no more decimals than one of them needs, and all alike.
    short = [f"{float(level.replace('−', '-')):g}" for level in levels]
    decimals = max(len(text.partition(".")[2]) for text in short)
    assert levels == [f"{float(text):.{decimals}f}".replace("-", "−") for text in short]
