"""The options and styles of a figure decide how it looks, or are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import here, refused
from helpers.runs import load_run, save_run
from PIL import Image

from jeatcli.errors import PictureWarning, UsageProblem
from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.plots import figure
from jeatcli.plots.landscape import draw
from jeatcli.plots.settings import PlotSettings

VIEWS: dict[str, dict[str, Any]] = {
    "contour": {"grid": 5},
    "surface": {"grid": 5, "surface": True},
    "histogram": {"kind": "histogram", "num": 20},
    "path": {"kind": "path", "num": 4, "steps": 3, "beyond": 2, "chain": 3},
    "sharpness": {"kind": "sharpness", "num": 8},
}


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


@pytest.mark.parametrize("view", VIEWS)
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
