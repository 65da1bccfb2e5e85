"""Every word of every picture is inside it, whichever options made it."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import here, one
from helpers.figures import cut_off
from helpers.runs import load_run, save_run
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jeatcli.errors import PictureWarning
from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.plots import contour, figure, robust_accuracy
from jeatcli.plots.landscape import FIGURES
from jeatcli.plots.settings import PlotSettings

VIEWS: dict[str, dict[str, Any]] = {
    "contour": {"grid": 5},
    "contour, classes": {"grid": 5, "axes": "classes"},
    "contour, adversarial": {"grid": 5, "axes": "adversarial", "relative": True},
    "contour, images": {"grid": 5, "image": (0, 1, 2)},
    "contour, l2": {"grid": 5, "unit_norm": "linf", "energy": "ce"},
    "surface": {"grid": 5, "surface": True},
    "surface, classes": {"grid": 5, "surface": True, "axes": "classes"},
    "histogram": {"kind": "histogram", "num": 20},
    "path": {"kind": "path", "num": 4, "steps": 3, "beyond": 2, "chain": 3},
    "sharpness": {"kind": "sharpness", "num": 8},
}


@pytest.mark.parametrize("runs", [1, 2, 5])
@pytest.mark.parametrize("view", VIEWS)
def test_no_text_is_cut_off(view: str, runs: int) -> None:
    models = [load_run(f"run-{number}", seed=number) for number in range(runs)]
    landscape = energy_landscape(models, **VIEWS[view])
    with figure.styled():
        assert cut_off(FIGURES.load(landscape.kind)(landscape.result)) == []


def test_long_names_of_runs_do_not_overlap(tmp_path: Path) -> None:
    name = "sweep-lr0.01-weight-decay-5e-4-seed-1-a-very-long-name-of-a-run"
    with figure.styled():
        drawn = Figure(figsize=(6, 3), layout="constrained")
        for axis in drawn.subplots(1, 3):
            axis.set_title(name)
        figure.save(drawn, tmp_path / "three.png", "three", "")
        boxes = [axis.title.get_window_extent() for axis in drawn.axes]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert "".join(drawn.axes[0].get_title().split()) == name


GRID = np.linspace(-4, 4, 41)


def bowl_panel() -> Any:
    """Return what the panel of a plane without marks needs."""
    plane = SimpleNamespace(span=4.0, grid=41, axis=torch.from_numpy(GRID))
    return SimpleNamespace(plane=plane, marks=[])


def contours(scale: float) -> list[Any]:
    """Return the labels on the lines of a bowl that is `scale` deep, steepest to the right."""
    bowl = GRID**2 + GRID[:, None] ** 2 + GRID * np.abs(GRID) / 2
    axis = Figure(dpi=200).add_subplot()
    levels = scale * np.arange(-16, 20, 4)
    norm = Normalize(-20 * scale, 20 * scale)
    contour._lines(axis, bowl_panel(), scale * (bowl - 20), norm, levels)
    return list(axis.texts)


def test_the_numbers_of_lines_are_level_and_alike() -> None:
    angles = np.linspace(0.0, 2 * np.pi, 400)
    # A circle, and one that can be seen at its sides alone.
    circle = 2.6 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ((x, y),) = contour._label_points([circle], 4.0, [])
    assert abs(x) < abs(y)
    sides = circle[np.abs(circle[:, 1]) < 0.5]
    assert len(contour._label_points([sides], 4.0, [])) == 1
    texts = contours(0.2)
    assert len(texts) >= 3
    decimals = {len(text.get_text().partition(".")[2]) for text in texts}
    assert decimals == {1}


def test_a_number_is_set_apart_from_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.clabel", lambda *_, **look: asked.append(look["inline_spacing"])
    )
    contours(1.0)
    # 2.5 points at 200 dots an inch.
    assert asked == [pytest.approx(6.94, abs=0.01)]


def test_a_style_s_grid_does_not_lie_over_the_colours() -> None:
    with figure.styled(PlotSettings(style="ggplot")):
        axis = Figure().add_subplot()
        contour._plane(axis, bowl_panel(), np.zeros((41, 41)), Normalize(0, 1))
        assert not any(line.get_visible() for line in axis.get_xgridlines())


def test_each_panel_may_have_its_own_scale() -> None:
    models = [load_run("sharp", gain=3), load_run("flat", gain=0.5, seed=1)]
    ranges = {}
    for scale in ("shared", "panel"):
        landscape = energy_landscape(models, grid=5, scale=scale)
        with figure.styled():
            drawing = FIGURES.load("contour")(landscape.result)
        images = [axis.images[0] for axis in drawing.axes[:2]]
        ranges[scale] = [image.get_clim() for image in images]
    assert ranges["shared"][0] == ranges["shared"][1]
    assert ranges["panel"][0] != ranges["panel"][1]


def test_the_curve_s_marks_are_whole_and_its_axis_has_symbols(tmp_path: Path) -> None:
    results = [
        SimpleNamespace(
            run="a",
            norm="linf",
            eps=eps,
            clean=1.0,
            robust=1 - 10 * eps,
            attacks=["pgd"],
            minimum_norm=None,
            certificate=None,
        )
        for eps in (4 / 255, 8 / 255)
    ]
    path = robust_accuracy.plot(results, ["a", "a"], tmp_path / "a.svg", 2)  # type: ignore[arg-type]
    text = path.read_text(encoding="utf-8")
    assert "∞" in text
    assert "linf" not in re.sub(r"<dc:description>.*?</dc:description>", "", text, flags=re.DOTALL)
    marks = re.findall(r'<g clip-path="[^"]*">\s*<use', text)
    assert not marks


def test_the_name_of_an_axis_lies_beside_its_numbers() -> None:
    """In a single column matplotlib lays `supylabel` over them."""
    model = load_run("run")
    for images in ((0,), (0, 1)):
        landscape = energy_landscape([model], grid=5, image=images)
        with figure.styled():
            drawing = FIGURES.load("contour")(landscape.result)
            assert cut_off(drawing) == []
            for axis in drawing.axes[: len(images)]:
                label = axis.yaxis.label.get_window_extent()
                numbers = [text.get_window_extent() for text in axis.get_yticklabels()]
                assert axis.get_ylabel() == "direction 2"
                assert label.x1 <= min(number.x0 for number in numbers)


@pytest.mark.parametrize("steps", [3, 10, 40])
def test_steps_are_whole_numbers(steps: int) -> None:
    settings: dict[str, Any] = {"num": 2, "steps": steps, "beyond": 0, "chain": steps}
    landscape = energy_landscape([load_run("run")], kind="path", **settings)
    with figure.styled():
        drawing = FIGURES.load("path")(landscape.result)
        drawing.canvas.draw()
        for axis in drawing.axes:
            shown = [tick for tick in axis.get_xticks() if 0 <= tick <= steps]
            assert len(shown) > 1
            assert all(tick.is_integer() for tick in shown)


@pytest.mark.filterwarnings("always::jeatcli.errors.PictureWarning")
def test_characters_that_the_font_lacks_are_told_in_one_line(tmp_path: Path) -> None:
    save_run("run")
    ask = ("landscape", "run", "--grid", 5, "-o", tmp_path / "x.png", "--device", "cpu", "--title")
    for title, missing in (("長い-数字-長", "長い数字"), ("ρобуст", None)):
        said = here(*ask, title)
        assert said.exit_code == 0, said.stderr
        told = [line for line in said.stderr.splitlines() if "font" in line or "Glyph" in line]
        assert len(told) == (1 if missing else 0), said.stderr
        assert all(f"Warning: the picture's font lacks `{missing}`" in line for line in told)
    assert "長い数字" in one(*ask, "長い数字", "-q")["warnings"][0]["text"]


def squeeze(others: tuple[str, ...]) -> None:
    """Warn as matplotlib does where it finds no layout, and of others."""
    with figure.styled():
        for _ in range(2):
            warnings.warn("constrained_layout not applied because axes collapsed", stacklevel=1)
        for text in others:
            warnings.warn(text, PictureWarning, stacklevel=1)


@pytest.mark.filterwarnings("always::jeatcli.errors.PictureWarning")
@pytest.mark.parametrize("others", [(), ("2 x 2 inches are too small for the words",)])
def test_that_no_layout_was_found_is_said_once_in_our_words(others: tuple[str, ...]) -> None:
    with pytest.warns(PictureWarning, match="too small for") as caught:
        squeeze(others)
    assert len(caught) == 1


@pytest.mark.filterwarnings("always::jeatcli.errors.PictureWarning")
def test_words_that_are_cut_off_are_warned_of(tmp_path: Path) -> None:
    save_run("run")
    ask = ("landscape", "run", "--grid", 5, "-o", tmp_path / "x.png", "--device", "cpu")
    for size, small in (((2, 2), True), ((5, 4), False)):
        said = here(*ask, "--figsize", *size)
        assert said.exit_code == 0, said.stderr
        words = "Warning: 2 x 2 inches are too small for the words of the picture, some of which"
        assert (words in said.stderr) == small
        assert ("inches" in said.stderr) == small
    assert "inches" not in here(*ask).stderr
