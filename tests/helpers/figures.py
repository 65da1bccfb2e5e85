"""What can be told of a figure without looking at it."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text


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
