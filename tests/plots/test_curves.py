"""The curves of a run: which panels there are, and that their words are inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from helpers.figures import cut_off

from jeatcli.plots import curves
from jeatcli.plots.settings import PLAIN

EVERY = {"loss": 2.0, "cross_entropy": 1.0, "accuracy": 0.5, "lr": 0.1}
ATTACK = {"energy_clean": -4.0, "energy_attacked": -3.0, "energy_delta": -1.0}
KINDS: dict[str, tuple[dict[str, float], list[str]]] = {
    "standard": ({}, ["loss", "accuracy (%)", "learning rate"]),
    "at": (ATTACK, ["loss", "accuracy (%)", "energy", "learning rate"]),
    "jem": (
        {"energy": -4.0, "energy_sgld": -2.0},
        ["loss", "accuracy (%)", "energy", "learning rate"],
    ),
}


def figure_of(more: dict[str, float], **late: float) -> Any:
    lines = [{"epoch": epoch, **EVERY, **more} for epoch in range(1, 6)]
    lines[-1] |= late
    with patch.object(curves, "save", lambda figure, *_: figure):
        return curves.draw(lines, Path("curves.png"), "a_$run$", PLAIN)


@pytest.mark.parametrize("kind", KINDS)
def test_a_panel_for_all_that_was_logged(kind):
    more, panels = KINDS[kind]
    figure = figure_of(more, test_clean=0.9, test_robust=0.4)
    assert [axis.get_ylabel() for axis in figure.axes] == panels
    assert cut_off(figure) == []


def test_the_legend_says_which_energy_is_whose():
    for more, names in (
        (ATTACK | {"energy_sgld": -2.0}, ["$E(x)$", r"$E(\hat{x})$", "$E(x_K)$"]),
        ({"energy": -4.0, "energy_sgld": -2.0}, ["$E(x)$", "$E(x_K)$"]),
    ):
        legend = figure_of(more).axes[2].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == names


def test_an_evaluation_is_a_point_at_its_epoch_in_per_cent():
    lines = figure_of({}, test_clean=0.9, test_robust=0.4).axes[1].get_lines()
    points = {line.get_label(): line.get_xydata().tolist() for line in lines}
    assert points["test, clean"] == [[5, 90]]
    assert points["test, PGD-10"] == [[5, 40]]
    assert len(points["training"]) == 5


def test_names_of_axes_are_below_each_other():
    figure = figure_of(ATTACK)
    assert cut_off(figure) == []
    lefts = [axis.yaxis.label.get_window_extent().x0 for axis in figure.axes]
    assert lefts[0] == pytest.approx(lefts[2], abs=1)
    assert lefts[1] == pytest.approx(lefts[3], abs=1)
