"""The reliability diagram and the heat map of corruptions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.figures import cut_off

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
