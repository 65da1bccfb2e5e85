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
from helpers.cli import here, one, refused
from helpers.figures import cut_off
from helpers.runs import load_run, save_run
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from jeatcli.errors import PictureWarning, UsageProblem
from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.plots import contour, figure, robust_accuracy
from jeatcli.plots.landscape import FIGURES, draw
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


def test_a_style_and_options_decide_the_look(tmp_path: Path) -> None:
    landscape = energy_landscape([load_run("run")], grid=5)
    style = tmp_path / "paper.mplstyle"
    style.write_text(
        "font.size: 5\nfigure.figsize: 3.25, 2.8\nimage.cmap: viridis\nfigure.dpi: 100\n"
    )

    def drawn(**changes: Any) -> tuple[tuple[int, int], set[str]]:
        """Return the size in pixels, and the sizes of the fonts of the vector version."""
        with Image.open(draw(landscape, tmp_path / "a.png", **changes)) as picture:
            size = picture.size
        text = draw(landscape, tmp_path / "a.svg", **changes).read_text(encoding="utf-8")
        return size, set(re.findall(r"([\d.]+)px", text))

    plain, styled = drawn(), drawn(style=str(style))
    assert styled[0] == (325, 280)
    # Every text is smaller than any text of ours: no size is fixed.
    assert max(map(float, styled[1])) < 1.2 * 5 * 1.01
    assert max(map(float, plain[1])) > 10
    over = drawn(style=str(style), figsize=(4, 3), dpi=50)
    assert over[0] == (200, 150)
    svg = draw(landscape, tmp_path / "b.svg", title="A title").read_text(encoding="utf-8")
    assert "A title" in svg


@pytest.mark.parametrize("view", ["contour", "surface", "histogram", "path", "sharpness"])
def test_words_and_legend_are_the_user_s(view: str, tmp_path: Path) -> None:
    models = [load_run("run-a"), load_run("run-b", seed=1)]
    landscape = energy_landscape(models, **VIEWS[view])

    def words(**changes: Any) -> str:
        svg = draw(landscape, tmp_path / "a.svg", **changes).read_text(encoding="utf-8")
        assert "<text" in svg  # text stays text
        return " ".join(re.findall(r">([^<>]+)</(?:text|tspan)>", svg))

    plain = words()
    assert "run-a" in plain
    said = words(label=("run-a=Ours, $5", "run-b=Theirs"))
    assert "Ours, $5" in said
    assert "run-a" not in said
    if view != "surface":  # it has none
        assert len(words(legend=False)) < len(plain)
    with pytest.raises(UsageProblem, match="OLD=NEW"):
        words(label=("run-a",))


def test_a_label_is_no_part_of_a_word(tmp_path: Path) -> None:
    with figure.styled():
        drawn = figure.new_figure(3, 2)
        axis = drawn.add_subplot()
        axis.plot([0, 1], label="at")
        axis.set_xlabel("data at random")
        axis.legend()
        settings = PlotSettings(label=("at=AT",))
        svg = figure.save(drawn, tmp_path / "a.svg", "t", "d", settings).read_text()
        gone = figure.save(drawn, tmp_path / "b.svg", "t", "d", PlotSettings(legend=False))
    assert ">AT<" in svg
    assert ">data AT random<" in svg
    assert ">AT<" not in gone.read_text()


def test_a_label_is_written_once_and_missed_if_it_is_not_there(tmp_path: Path) -> None:
    """Also where the new words have the old ones in them."""
    with figure.styled():
        drawn = figure.new_figure(3, 2)
        axis = drawn.add_subplot()
        axis.set_title("test")
        axis.set_yticks([0, 1], ["test", "noise"])
        settings = PlotSettings(label=("test=test images", "tset=Test"))
        with pytest.warns(PictureWarning, match="--label tset=Test` changes nothing: .* no `tset`"):
            svg = figure.save(drawn, tmp_path / "a.svg", "t", "d", settings).read_text()
    assert svg.count(">test images<") == 2
    assert ">noise<" in svg


@pytest.mark.parametrize("cmap", ["viridis", "gray"])
def test_the_colour_map_is_the_style_s_or_that_of_the_option(cmap: str, tmp_path: Path) -> None:
    landscape = energy_landscape([load_run("run")], grid=5)
    style = tmp_path / "map.mplstyle"
    style.write_text(f"image.cmap: {cmap}\n")
    by_style = draw(landscape, tmp_path / "a.png", style=str(style)).read_bytes()
    assert by_style == draw(landscape, tmp_path / "a.png", cmap=cmap).read_bytes()
    assert by_style != draw(landscape, tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("kind", ["path", "histogram", "sharpness"])
def test_a_colour_map_that_changes_nothing_is_refused(kind: str, tmp_path: Path) -> None:
    landscape = energy_landscape([load_run("run")], kind=kind, num=2)
    with pytest.raises(UsageProblem, match=f"`--cmap` does nothing for `--kind {kind}`"):
        draw(landscape, tmp_path / "a.png", cmap="gray")


def test_dots_per_inch_are_for_pixels(tmp_path: Path) -> None:
    model = load_run("run")
    curves = energy_landscape([model], kind="path", num=2)
    with pytest.raises(UsageProblem, match=r"`--dpi` does nothing for .*a\.svg"):
        draw(curves, tmp_path / "a.svg", dpi=50)
    # The colours of a plane are pixels in a vector file, too.
    plane = energy_landscape([model], grid=5)
    coarse, fine = (draw(plane, tmp_path / f"{dpi}.svg", dpi=dpi) for dpi in (50, 400))
    assert coarse.stat().st_size < fine.stat().st_size / 2
    PlotSettings(dpi=50).check_dots(tmp_path / "a.svg", tmp_path / "a.png")


def test_a_picture_beyond_the_memory_is_refused(tmp_path: Path) -> None:
    save_run("run")
    ask = ("landscape", "run", "--grid", 3, "-o", tmp_path / "x.png", "--dpi", 2400, "--figsize")
    text = "100 x 50 inches at 2400 dots per inch would have 28,800 million pixels"
    refused(here(*ask, 100, 50), 2, text, "lower `--figsize` or `--dpi`")
    with figure.styled(PlotSettings(dpi=2400)), pytest.raises(UsageProblem, match="million"):
        figure.save(figure.new_figure(16, 9), tmp_path / "y.png", "", "")
    assert not list(tmp_path.glob("*.png"))


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


def drawn_curves(
    results: list[SimpleNamespace], radii: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[float]]:
    """Return the radii of each curve by its label."""
    figures: list[Any] = []
    monkeypatch.setattr(robust_accuracy, "save", lambda figure, *_: figures.append(figure) or path)
    names = [result.run for result in results]
    robust_accuracy.plot(results, names, path, radii)  # type: ignore[arg-type]
    (axis,) = figures[0].axes
    return {str(each.get_label()): list(each.get_xdata()) for each in axis.lines}


def a_result(**changes: object) -> SimpleNamespace:
    about = {"run": "a", "norm": "l2", "eps": 0.5, "clean": 1.0, "robust": 0.5, "attacks": ["fmn"]}
    return SimpleNamespace(**about | {"minimum_norm": None, "certificate": None} | changes)


def test_each_norm_has_a_curve_of_smallest_radii(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [
        a_result(
            run=run,
            norm=norm,
            minimum_norm={"curve": {"eps": [0.0, top], "robust": [1.0, 0.0]}},
        )
        for run in ("a", "b")
        for norm, top in (("linf", 0.1), ("l2", 2.0))
    ]
    found = drawn_curves(results, 2, tmp_path / "a.svg", monkeypatch)
    assert len(found) == 4
    assert sorted(radii[-1] for radii in found.values()) == [0.1, 0.1, 2.0, 2.0]


def test_both_curves_of_a_certificate_have_one_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = {"curve": {"eps": [0.0, 16 / 255], "certified": [1.0, 0.0]}}
    found = drawn_curves(
        [a_result(eps=16 / 255, certificate=sure)], 1, tmp_path / "a.svg", monkeypatch
    )
    assert found["a"][-1] == found["a, certified"][-1] == 16
