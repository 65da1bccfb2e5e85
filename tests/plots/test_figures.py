"""Every word of every picture is inside it, whichever options made it."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from helpers.runs import load_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.plots import figure

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


def cut_off(drawing: Any) -> list[str]:
    """Draw; return the texts that reach over an edge of the picture."""
    boxes: list[tuple[str, Any]] = []
    draw = Text.draw

    def watched(self: Text, *given: Any, **named: Any) -> None:
        # An axis has labels for ticks outside of its limits, too, and never draws them; and in
        # three dimensions a text knows its place while it is drawn alone.
        draw(self, *given, **named)
        if self.get_text():
            boxes.append((self.get_text(), self.get_window_extent()))

    with patch.object(Text, "draw", watched):
        FigureCanvasAgg(drawing).draw()
    assert boxes
    whole = drawing.bbox.padded(0.5)
    return [
        name
        for name, box in boxes
        if box.x0 < whole.x0 or box.x1 > whole.x1 or box.y0 < whole.y0 or box.y1 > whole.y1
    ]


@pytest.mark.parametrize("runs", [1, 2, 5])
@pytest.mark.parametrize("view", VIEWS)
def test_no_text_is_cut_off(view: str, runs: int) -> None:
    models = [load_run(f"run-{number}", seed=number) for number in range(runs)]
    found = energy_landscape(models, **VIEWS[view])
    with figure.styled():
        assert cut_off(found.found.figure()) == []
