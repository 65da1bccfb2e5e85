"""Legends and names of axes lie beside the panels, whatever their number and length."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.figures import cut_off
from helpers.runs import load_run
from matplotlib.text import Text

from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.plots import figure, robust_accuracy
from jeatcli.plots.landscape import FIGURES
from jeatcli.plots.settings import PlotSettings

VIEWS: dict[str, dict[str, Any]] = {
    "path": {"kind": "path", "num": 2, "steps": 2, "beyond": 1, "chain": 2},
    "sharpness": {"kind": "sharpness", "num": 2, "radius": (1.0, 2.0), "directions": 2},
}
LONG = "sweep-weight-decay-5e-4-{}"


@pytest.mark.parametrize("kind", ["path", "sharpness"])
def test_the_legend_of_ten_long_names_takes_no_room_from_the_curves(kind: str) -> None:
    models = [load_run(LONG.format(number), seed=number) for number in range(10)]
    with figure.styled():
        widths = []
        for runs in (models[:1], models):
            landscape = energy_landscape(runs, **VIEWS[kind])
            drawing = FIGURES.load(kind)(landscape.result)
            assert cut_off(drawing) == []
            widths.append(drawing.axes[0].get_window_extent().size)
            if kind == "sharpness":  # the number of a point is above it, and below the next one
                rows = drawing.axes[1].texts
                boxes = [text.get_window_extent() for text in rows]
                assert not any(one.overlaps(two) for one, two in itertools.pairwise(boxes))
    # Sharpness has the names beside its points.
    assert (widths[1] > 0.7 * widths[0]).all()


@pytest.mark.parametrize(("count", "lines"), [(5, [5]), (6, [3, 3]), (7, [4, 3])])
def test_the_histograms_of_many_runs_are_in_even_lines(count: int, lines: list[int]) -> None:
    models = [load_run(f"run-{number}", seed=number) for number in range(count)]
    with figure.styled():
        found = energy_landscape(models, kind="histogram", num=2)
        drawing = FIGURES.load("histogram")(found.result)
        assert cut_off(drawing) == []
    tops = [round(axis.get_position().y1, 3) for axis in drawing.axes]
    assert [tops.count(top) for top in dict.fromkeys(tops)] == lines
    assert [axis.get_title() for axis in drawing.axes] == [f"run-{k}" for k in range(count)]
    assert drawing.get_figwidth() == pytest.approx(1 + 1.9 * lines[0])
    sizes = [axis.get_window_extent().height for axis in drawing.axes]
    assert min(sizes) > 0.35 * drawing.dpi * len(found.result.values)


def a_result(run: str) -> SimpleNamespace:
    about = {"run": run, "norm": "l2", "eps": 0.5, "clean": 1.0, "robust": 0.5}
    return SimpleNamespace(**about, attacks=["pgd"], minimum_norm=None, certificate=None)


def test_a_legend_of_ten_long_names_lies_below_the_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(
        robust_accuracy, "save", lambda drawn, path, *_: figures.append(drawn) or path
    )
    for count in (2, 10):
        results = [a_result(LONG.format(number)) for number in range(count)]
        names = [result.run for result in results]
        robust_accuracy.plot(results, names, tmp_path / "a.svg", 1)  # type: ignore[arg-type]
    few, many = figures
    assert few.axes[0].get_legend() is not None
    assert cut_off(many) == cut_off(few) == []
    below = many.legends[0].get_window_extent()
    assert not below.overlaps(many.axes[0].get_window_extent())
    assert many.axes[0].get_window_extent().height > 0.7 * few.axes[0].get_window_extent().height


def test_the_two_lines_of_a_single_panel_s_axis_have_one_middle() -> None:
    landscape = energy_landscape([load_run("run")], grid=5)
    with figure.styled():
        drawing = FIGURES.load("contour")(landscape.result)
        title = drawing.legends[0].get_title()
        assert "\n" in title.get_text()
        # Matplotlib has no getter.
        assert title._multialignment == "center"


def test_the_name_of_an_axis_lies_beside_its_panels_in_a_wide_picture() -> None:
    landscape = energy_landscape([load_run("run"), load_run("two", seed=1)], grid=5)
    with figure.styled(PlotSettings(figsize=(20, 3))):
        drawing = FIGURES.load("contour")(landscape.result)
        assert cut_off(drawing) == []
        first = drawing.axes[0]
        words = [text for text in drawing.findobj(Text) if text.get_text() == "direction 2"]
        (label,) = (text.get_window_extent() for text in words)
        assert first.get_window_extent().x0 - label.x1 < 0.5 * drawing.dpi
