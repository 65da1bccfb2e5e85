"""Figures of equal panels: measured in inches, so that fonts keep their size in print."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageProblem, unknown
from ..runtime.files import write_atomic

KINDS = ("png", "svg", "pdf")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "mathtext.fontset": "dejavusans",
    # Text stays text in vector files, and the same picture is the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "jeat",
    "pdf.fonttype": 42,
}
# Inches: a panel's side, the gaps between panels, the margins, the colour bar.
_SIDE, _GAP, _ROW_GAP = 2.15, 0.24, 0.72
_LEFT, _TOP, _BOTTOM = 0.55, 0.52, 0.84
_BAR_GAP, _BAR, _RIGHT = 0.14, 0.11, 0.72
_DPI = 200


@dataclass(frozen=True)
class Layout:
    """Square panels in rows with a colour bar at their right and captions below.

    Args:
        count: Panels.
        columns: Panels in a row; without it up to four, as in the paper, and five and six in
            rows of three.
    """

    count: int
    columns: int | None = None

    @property
    def across(self) -> int:
        """Panels in a row."""
        usual = self.count if self.count <= 4 else 3 if self.count <= 6 else 4
        return self.columns or usual

    @property
    def rows(self) -> int:
        """As many as the panels need."""
        return math.ceil(self.count / self.across)

    @property
    def width(self) -> float:
        """Of the panels together, in inches."""
        return self.across * _SIDE + (self.across - 1) * _GAP

    @property
    def height(self) -> float:
        """Of the panels together, in inches."""
        return self.rows * _SIDE + (self.rows - 1) * _ROW_GAP

    def figure(self) -> Any:
        """Make an empty matplotlib Figure of the right size."""
        from matplotlib.figure import Figure

        size = (_LEFT + self.width + _BAR_GAP + _BAR + _RIGHT, _TOP + self.height + _BOTTOM)
        return Figure(figsize=size, dpi=_DPI)

    def panels(self, figure: Any, projection: str | None = None) -> list[Any]:
        """Add the panels' axes; flat ones are labelled where no panel is beside or below."""
        axes = []
        for index in range(self.count):
            row, column = divmod(index, self.across)
            left = _LEFT + column * (_SIDE + _GAP)
            bottom = _BOTTOM + (self.rows - 1 - row) * (_SIDE + _ROW_GAP)
            axis = _box(figure, left, bottom, _SIDE, _SIDE, projection)
            lowest = index + self.across >= self.count
            if projection is None:
                axis.tick_params(labelleft=column == 0, labelbottom=lowest, length=3)
            axes.append(axis)
        return axes

    def colour_bar(self, figure: Any, mesh: Any, label: str) -> None:
        """Add the one colour bar, as tall as the panels."""
        box = _box(figure, _LEFT + self.width + _BAR_GAP, _BOTTOM, _BAR, self.height)
        bar = figure.colorbar(mesh, cax=box, label=label)
        bar.outline.set_linewidth(0.6)
        box.tick_params(length=3)

    def captions(self, figure: Any, across: str, up: str, legend: Mapping[str, Any]) -> None:
        """Name the axes of all panels, and the marks by `legend`, text to handle."""
        width, height = figure.get_size_inches()
        middle = (_LEFT + self.width / 2) / width
        half_way = (_BOTTOM + self.height / 2) / height
        if self.across == 1:
            # The unit, in parentheses, goes below: beside a long name it is wider than a panel.
            across = across.replace(" (", "\n(")
        figure.text(middle, (0.45 if legend else 0.38) / height, across, ha="center", va="center")
        figure.text(0.16 / width, half_way, up, ha="center", va="center", rotation=90)
        figure.legend(
            list(legend.values()),
            list(legend),
            loc="center",
            bbox_to_anchor=(middle, 0.19 / height),
            ncols=len(legend),
            frameon=False,
            fontsize=8,
            handletextpad=0.5,
            columnspacing=1.5,
        )


def plain_text(text: str) -> str:
    """Keep matplotlib from reading a name as a formula."""
    return text.replace("$", r"\$")


def figure_text(value: float, signed: bool = False) -> str:
    """Write a number with three significant digits and a true minus."""
    text = f"{value:+.3g}" if signed else f"{value:.3g}"
    return text.replace("-", "−")


def check_path(path: Path | str) -> str:
    """Return the file type by which `save` would write `path`: png, svg or pdf.

    Raises:
        UsageProblem: If it is another.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in KINDS:
        what = f"unknown file type `.{suffix}`" if suffix else "it has no file type"
        raise UsageProblem(
            f"cannot draw into `{path}`: {what}", "name a file that ends in .png, .svg or .pdf"
        )
    return suffix


@contextmanager
def styled(style: str | None = None) -> Iterator[None]:
    """Draw with our settings, and on top of them a style of matplotlib's or of a file.

    Raises:
        UsageProblem: If there is no such style.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        if style is not None:
            settings: Any = matplotlib.rcParams
            settings.update(_read_style(style))
        yield


def check_style(style: str | None) -> None:
    """Refuse a style that `styled` could not use.

    Raises:
        UsageProblem: If there is no such style.
    """
    if style is not None:
        _read_style(style)


def _read_style(style: str) -> dict[str, Any]:
    from matplotlib import rc_params_from_file
    from matplotlib.style import library

    found: Any
    if style in library:
        found = library[style]
        return dict(found)
    path = Path(style).expanduser()
    if not path.is_file():
        wrong = unknown("style", style, library)
        raise UsageProblem(f"{wrong.message}; nor is it a file", wrong.hint)
    try:
        found = rc_params_from_file(path, use_default_template=False)
    except (OSError, UnicodeDecodeError, ValueError) as problem:
        raise UsageProblem(f"`{path}` is no style of matplotlib's: {problem}") from problem
    return dict(found)


def save(figure: Any, path: Path, title: str, description: str) -> Path:
    """Write `figure` as its path's ending says, with title and description in the file itself.

    Raises:
        UsageProblem: If the ending is none of png, svg, pdf.
        JeatError: If the file cannot be written.
    """
    kind = check_path(path)
    # The time of writing is left out: the same picture is the same file.
    described: dict[str, dict[str, str | None]] = {
        "png": {"Title": title, "jeat": description},
        "svg": {"Title": title, "Description": description, "Date": None},
        "pdf": {"Title": title, "Subject": description, "CreationDate": None},
    }

    # In memory first: on a full disk the writer of PDFs fails in ways that do not say so.
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata=described[kind])
    return write_atomic(path, lambda beside: beside.write_bytes(content.getvalue()))


def _box(
    figure: Any,
    left: float,
    bottom: float,
    width: float,
    height: float,
    projection: str | None = None,
) -> Any:
    """Add axes at a place given in inches from the lower left."""
    across, up = figure.get_size_inches()
    place = (left / across, bottom / up, width / across, height / up)
    return figure.add_axes(place, projection=projection)
