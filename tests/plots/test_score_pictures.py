"""The reliability diagram and the heat map of corruptions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.figures import cut_off
from matplotlib.colors import to_rgba

from jeatcli.plots import corruptions, reliability
from jeatcli.plots.settings import PlotSettings
from jeatcli.scoring.calibration import Calibration
from jeatcli.scoring.corruptions import CORRUPTIONS, Corrupted

CALIBRATION = Calibration(
    0.17, [0.0, 0.25, 0.5, 0.75, 1.0], [0, 1, 3, 4], [None, 0.4, 0.6, 0.9], [None, 0.0, 0.7, 1.0]
)
FOUND = Corrupted(100, {kind: [0.9, 0.8, 0.6, 0.5, 0.3] for kind in CORRUPTIONS}, 0.38)
NAME = "cifar10-jeat-wrn-28-10-seed0"


def words(svg: Path) -> list[str]:
    return re.findall(r">([^<>\n]+)</(?:text|tspan)>", svg.read_text(encoding="utf-8"))


def test_a_reliability_diagram_says_what_its_marks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(reliability, "save", lambda figure, path, *_: figures.append(figure))
    reliability.save_diagram(CALIBRATION, tmp_path / "a.svg", NAME)
    (drawing,) = figures
    assert cut_off(drawing) == []
    (legend,) = drawing.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "mean confidence of a bin",
        "perfect calibration",
    ]
    upper, lower = drawing.axes
    points, diagonal = upper.lines
    assert list(points.get_xdata()) == [0.4, 0.6, 0.9]
    assert points.get_markerfacecolor() != points.get_markeredgecolor()
    assert diagonal.get_color() != upper.patches[0].get_facecolor()
    assert lower.get_ylabel() == "share of\nimages"


def test_a_heat_map_is_written_as_in_print(tmp_path: Path) -> None:
    path = tmp_path / "heat.svg"
    corruptions.save_heat_map(FOUND, path, NAME)
    found = words(path)
    assert {"Gaussian noise", "JPEG compression", "zoom blur", "mean error 38.0 %"} <= set(found)
    assert NAME in "".join(found)
    corruptions.save_heat_map(FOUND, path, NAME, PlotSettings(title="Above"))
    assert "Above" in words(path)


def test_the_numbers_of_a_heat_map_stand_out_from_their_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(corruptions, "save", lambda figure, path, *_: figures.append(figure))
    accuracies = {kind: [k / 95 + j / 5 for j in range(5)] for k, kind in enumerate(CORRUPTIONS)}
    corruptions.save_heat_map(Corrupted(100, accuracies, 0.5), tmp_path / "heat.svg", NAME)
    axis = figures[0].axes[0]
    (drawn,) = axis.images
    for text in axis.texts:
        x, y = text.get_position()
        field = drawn.cmap(drawn.norm(drawn.get_array()[y, x]))
        ours, other = (contrast(field, to_rgba(ink)) for ink in (text.get_color(), "black"))
        assert ours > 4.4
        assert ours >= 0.9 * other


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast ratio of WCAG 2, from 1 to 21."""
    dark, light = sorted(
        sum(
            weight * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
            for weight, v in zip((0.2126, 0.7152, 0.0722), colour[:3], strict=True)
        )
        for colour in (one, other)
    )
    return (light + 0.05) / (dark + 0.05)
