"""Other words in a figure, in place of its own."""

import re
from functools import partial
from typing import Any

from matplotlib.text import Text


def rename(figure: Any, old: str, new: str) -> bool:
    """Write new words for old ones wherever they stand in a figure; tell whether they do."""
    # Not within another word: `at` is no part of `data`.
    pattern = re.compile(rf"(?<![\w-]){re.escape(old)}(?![\w-])")
    renamed = partial(pattern.sub, new.replace("\\", r"\\"))
    # A tick's text is set anew by its axis, which has to be told. In three dimensions ticks are
    # numbers, and matplotlib 3.10 finds no layout once they were asked for.
    flat = [axis for axis in figure.axes if axis.name != "3d"]
    axes = {part: part.get_ticklabels() for axis in flat for part in (axis.xaxis, axis.yaxis)}
    ticks = [text for labels in axes.values() for text in labels]
    found = [text for text in figure.findobj(Text) if pattern.search(text.get_text())]
    for part, labels in axes.items():
        if any(text in found for text in labels):
            written = [renamed(text.get_text()) for text in labels]
            part.set_ticks(part.get_ticklocs(), labels=written)
    for text in found:
        if text not in ticks:
            text.set_text(renamed(text.get_text()))
    return bool(found)
