"""Pictures of a column's width, and of few images."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers.figures import cut_off
from helpers.runs import load_run
from matplotlib.text import Text

from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.landscapes.sharpness import SharpnessResult
from jeatcli.plots import figure
from jeatcli.plots.landscape import FIGURES
from jeatcli.plots.settings import PlotSettings

LOW = (5.5, 2.6)


def drawn(runs: int, size: tuple[float, float] | None = None, **settings: Any) -> Any:
    """Draw a landscape of so many runs, at this size."""
    models = [load_run(f"run-{number}", seed=number) for number in range(runs)]
    landscape = energy_landscape(models, **settings)
    with figure.styled(PlotSettings(figsize=size)):
        drawing = FIGURES.load(landscape.kind)(landscape.result)
        assert cut_off(drawing) == []
    return drawing


def boxes(drawing: Any, *words: str) -> list[Any]:
    """Return the boxes of the texts with any of these words."""
    texts = [text for text in drawing.findobj(Text) if any(w in text.get_text() for w in words)]
    assert texts
    return [text.get_window_extent() for text in texts]


@pytest.mark.parametrize("size", [LOW, (5.5, 4), None])
def test_the_numbers_over_two_contours_are_apart(size: tuple[float, float] | None) -> None:
    drawing = drawn(2, size, grid=17)
    left, right = boxes(drawing, "at the image")
    assert not left.overlaps(right)
    # A low picture has narrow panels, too.
    assert any(",\nrise" in text.get_text() for text in drawing.findobj(Text)) == (size == LOW)


@pytest.mark.parametrize("size", [(12, 2), (4.5, 2.8), (9, 2.2)])
def test_the_numbers_over_three_small_contours_are_apart(size: tuple[float, float]) -> None:
    notes = boxes(drawn(3, size, grid=17), "at the image")
    assert len(notes) == 3
    assert not any(one.overlaps(two) for one, two in itertools.pairwise(notes))


@pytest.mark.parametrize("surface", [False, True])
def test_the_words_around_a_low_picture_are_apart(surface: bool) -> None:
    drawing = drawn(2, (3.3, 2.6), grid=5, surface=surface)
    bar, below = boxes(drawing, "relative"), boxes(drawing, "direction 1")
    assert not bar[0].overlaps(below[0])


def test_the_numbers_of_a_surface_s_axes_are_not_at_its_corners() -> None:
    axis = drawn(1, grid=5, surface=True).axes[0]
    assert list(axis.get_xticks()) == list(axis.get_yticks()) == [-2, 0, 2]


def test_the_legend_of_narrow_histograms_is_whole() -> None:
    drawing = drawn(2, (3.3, 2.6), kind="histogram", num=20)
    assert drawing.legends[0].get_window_extent().x0 >= 0


@pytest.mark.parametrize(("num", "bins"), [(4, 9), (20, 20), (200, 60)])
def test_few_images_have_a_coarse_histogram(num: int, bins: int) -> None:
    drawing = drawn(1, kind="histogram", num=num)
    assert len(drawing.axes[0].patches[0].get_data().values) == bins


@pytest.mark.parametrize(("runs", "fewest", "most"), [(1, 4, 8), (2, 2, 6)])
def test_a_single_histogram_has_more_numbers(runs: int, fewest: int, most: int) -> None:
    axis = drawn(runs, kind="histogram", num=20).axes[0]
    low, high = axis.get_xlim()
    assert fewest <= sum(low <= tick <= high for tick in axis.get_xticks()) <= most


@pytest.mark.parametrize("size", [(6.5, 3), None])
def test_the_numbers_and_captions_of_paths_are_apart(size: tuple[float, float] | None) -> None:
    drawing = drawn(2, size, kind="path", num=4, steps=8, beyond=8, chain=3)
    for axis in drawing.axes:
        low, high = axis.get_ylim()
        shown = [t for t in axis.yaxis.get_major_ticks() if low <= t.get_loc() <= high]
        numbers = [tick.label1.get_window_extent() for tick in shown]
        assert len(numbers) >= 2
        assert not any(one.overlaps(two) for one, two in itertools.pairwise(numbers))
    first, second = boxes(drawing, "PGD on", "SGLD on")
    assert not first.overlaps(second)


def test_the_edge_of_the_ball_is_in_the_legend() -> None:
    models, names = [load_run("run")], {}
    for beyond in (0, 3):
        landscape = energy_landscape(models, kind="path", num=2, steps=2, chain=2, beyond=beyond)
        with figure.styled():
            drawing = FIGURES.load("path")(landscape.result)
        (legend,) = drawing.legends
        marked = [any(each.get_xdata()[0] == 2 for each in axis.lines) for axis in drawing.axes]
        assert marked == [beyond > 0] * 4 + [False] * 4
        names[beyond] = [text.get_text() for text in legend.get_texts()]
    assert names[3][:-1] == names[0]
    assert names[3][-1].startswith("leaves the ball, ")


def test_short_names_beside_a_long_one_share_a_line() -> None:
    names = ["standard", "at", "prejeat", "jeat", "trades", "bands: 10 to 90 % of the images"]
    with figure.styled():
        assert figure.legend_columns(names, 9.2) == 6
        # As many lines as before, and no column empty.
        assert figure.legend_columns(names[1:], 6.2, most=4) == 3
        assert figure.legend_columns(names, 3.5) == 2
        assert figure.legend_columns([30 * "long"] * 3, 5) == 1


def test_an_interval_below_zero_ends_at_the_edge_of_its_scale() -> None:
    models = [load_run("run")]
    result = energy_landscape(models, kind="sharpness", num=8, directions=2).result
    assert isinstance(result, SharpnessResult)
    # Rises about 0.01 of some images and 1 of others, at the smallest radius falls too.
    rises = np.geomspace(0.1, 1, result.rises.shape[1])[None, :, None] * np.ones(
        result.rises.shape, result.rises.dtype
    )
    rises[:, 0, ::2] *= -0.9
    object.__setattr__(result, "rises", rises)
    with figure.styled():
        axis = FIGURES.load("sharpness")(result).axes[0]
    bottom = axis.get_ylim()[0]
    band = axis.collections[0].get_paths()[0].vertices
    assert axis.get_yscale() == "log"
    assert band[:, 1].min() == pytest.approx(bottom)
    assert axis.get_ylim()[1] >= rises.max()
