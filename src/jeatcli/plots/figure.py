"""What the figures share: style, colours, words and saving.

Fonts are in points and sizes relative to `font.size`, so that a style file changes them together.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib import colormaps, rc_context, rc_params_from_file, rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.style import library

from ..core.threat import Threat, fraction
from ..errors import PictureWarning, UsageProblem, unknown
from ..runtime.files import expand, write_atomic
from .limits import check_pixels, warn_if_cut
from .settings import PLAIN, PlotSettings
from .words import rename

KINDS = ("png", "svg", "pdf")
# A size that no style has: each figure chooses its own.
_BY_CONTENT = (0.0, 0.0)
STYLE: dict[str, Any] = {
    "figure.figsize": _BY_CONTENT,
    "figure.dpi": 200,
    "font.family": "sans-serif",
    "font.size": 9,
    # Perceptually uniform, monotonic in lightness (so it survives a grey printer), and told
    # apart by the colour-blind.
    "image.cmap": "magma",
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": "small",
    # Of surfaces; other grids are fainter still.
    "grid.color": "0.85",
    "grid.linewidth": 0.5,
    "mathtext.fontset": "dejavusans",
    # Text stays text in vector files, and the same picture is the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "jeat",
    "pdf.fonttype": 42,
}
NORMS = {"linf": r"\infty", "l2": "2", "l1": "1"}
# Okabe and Ito (2008): told apart by the colour-blind, in this order also in grey.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
DOTTED: dict[str, Any] = {"color": "0.45", "linewidth": 0.8, "linestyle": (0, (2, 2))}


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of the style's size, or else of this one, in inches."""
    size = (width, height) if _size_by_content() else None
    return Figure(figsize=size, layout="constrained")


def _size_by_content() -> bool:
    return tuple(rcParams["figure.figsize"]) == _BY_CONTENT


def line(index: int) -> dict[str, Any]:
    """Return the look of the curve of run `index`: colour and dashes."""
    dashes = _DASHES[index % len(_DASHES)]
    return {"color": _colour(index), "linestyle": dashes, "linewidth": 1.4}


def mark(index: int) -> dict[str, Any]:
    """Return the look of the point of run `index`."""
    marker = _MARKS[index % len(_MARKS)]
    return {"color": _colour(index), "marker": marker, "markersize": 4.5}


def _colour(index: int) -> str:
    """Return the colour of run `index`; the first has that of the style's text, on any ground."""
    return (rcParams["text.color"], *COLOURS[1:])[index % len(COLOURS)]


def faint(share: float) -> dict[str, Any]:
    """Return the look of what stands back: so much of the colour of the style's text."""
    return {"color": rcParams["text.color"], "alpha": share}


def label_above(points: float) -> dict[str, Any]:
    """Return the arguments of `annotate` for a small text centred so far above its place."""
    text = {"textcoords": "offset points", "ha": "center", "fontsize": "small"}
    return {"xytext": (0, points), **text}


def tidy(axis: Any) -> None:
    """Leave the two axes that are read, and a light grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, linewidth=0.4, **faint(0.12))
    axis.set_axisbelow(True)


def legend_columns(names: Sequence[str], inches: float, most: int = 6) -> int:
    """Return how many columns of a legend with these names fit in so many inches, or 1."""
    # A letter is about 0.55 of the size wide; a line, its gaps and that between columns 5 sizes.
    widths = [(0.55 * len(name) + 5) * _legend_size() for name in names]
    for columns in range(min(most, len(names)), 1, -1):
        lines = -(-len(names) // columns)
        if sum(max(widths[k : k + lines]) for k in range(0, len(names), lines)) <= 72 * inches:
            return -(-len(names) // lines)  # which leaves no column empty
    return 1


def legend_below(figure: Any, entries: tuple[list[Any], list[str]], most: int = 6) -> None:
    """Put a legend under the figure, in as many columns as fit, at no cost to the panels."""
    columns = legend_columns(entries[1], figure.get_figwidth(), most)
    if _size_by_content():
        lines = -(-len(entries[1]) // columns)
        # A first line has its place in all figures.
        figure.set_figheight(figure.get_figheight() + (lines - 1) * 1.7 * _legend_size() / 72)
    figure.legend(*entries, loc="outside lower center", ncols=columns, frameon=False)


def _legend_size() -> float:
    return float(FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points())


def plain_text(text: str) -> str:
    """Keep matplotlib from reading a name as a formula."""
    return text.replace("$", r"\$")


def figure_text(value: float, signed: bool = False) -> str:
    """Write a measured number with three significant digits, zeros too, and a true minus."""
    text = f"{value:+#.3g}" if signed else f"{value:#.3g}"
    return text.removesuffix(".").replace("-", "−")


def ball_text(threat: Threat) -> str:
    """Write a ball as a formula: its norm and radius."""
    return rf"$\ell_{NORMS[threat.norm]}$ {fraction(threat.eps)}"


def check_path(path: Path | str) -> str:
    """Return the file type that `save` would write to `path`: png, svg or pdf."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in KINDS:
        what = f"unknown file type `.{suffix}`" if suffix else "it has no file type"
        raise UsageProblem(
            f"cannot draw into `{path}`: {what}", "name a file that ends in .png, .svg or .pdf"
        )
    return suffix


def check_look(settings: PlotSettings) -> None:
    """Refuse a style or a colour map that `styled` could not use."""
    with styled(settings):
        if not _size_by_content():
            check_pixels(*rcParams["figure.figsize"])


@contextmanager
def styled(settings: PlotSettings = PLAIN) -> Iterator[None]:
    """Draw with our style, overridden by the settings' style and then by their single values."""
    names = {"figure.figsize": "figsize", "figure.dpi": "dpi", "image.cmap": "cmap"}
    chosen = {key: getattr(settings, name) for key, name in names.items()}
    if settings.cmap is not None and settings.cmap not in colormaps:
        raise unknown("colour map", settings.cmap, list(colormaps))
    style = {} if settings.style is None else _read_style(settings.style)
    own = {key: value for key, value in chosen.items() if value is not None}
    with rc_context(STYLE | style | own), _merged_warnings():
        yield


@contextmanager
def _merged_warnings() -> Iterator[None]:
    """Warn once of all characters that the font does not have, and of all else as usual.

    That no layout was found, which matplotlib says for each try, is said in our words.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing = dict[str, None]()
    collapsed = [each for each in caught if "layout not applied" in str(each.message)]
    if collapsed and not any("too small" in str(each.message) for each in caught):
        warnings.warn(
            "the picture is too small for its words: choose a larger `--figsize`",
            PictureWarning,
            stacklevel=2,
        )
    for each in (each for each in caught if each not in collapsed):
        if found := re.match(r"Glyph (\d+) .*missing from font", str(each.message)):
            missing[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if missing:
        warnings.warn(
            f"the picture's font lacks `{''.join(missing)}` and draws boxes; choose one that has "
            "them in a file for `--style`, such as `font.family: Noto Sans CJK JP`",
            PictureWarning,
            stacklevel=2,
        )


def styles() -> list[str]:
    """Return the names of matplotlib's styles and of the user's own."""
    return sorted(name for name in library if not name.startswith("_"))


def colour_maps() -> list[str]:
    """Return the names of matplotlib's colour maps, without the reversed ones."""
    return sorted(name for name in colormaps if not name.endswith("_r"))


def _read_style(style: str) -> Any:
    if style in library:
        return library[style]
    path = expand(style)
    if not path.is_file():
        wrong = unknown("style", style, library)
        raise UsageProblem(f"{wrong.message}; it is not a file either", wrong.hint)
    try:
        return rc_params_from_file(path, use_default_template=False)
    except (OSError, UnicodeDecodeError, ValueError) as problem:
        raise UsageProblem(f"`{path}` is not a matplotlib style: {problem}") from problem


def _apply_words(figure: Any, settings: PlotSettings) -> None:
    """Put the title, the labels and the legend of the settings in place of the figure's own."""
    if settings.legend is False:
        for legend in [*figure.legends, *(axis.get_legend() for axis in figure.axes)]:
            if legend is not None:
                legend.remove()
    for words in settings.label:
        old, _, new = words.partition("=")
        if not rename(figure, plain_text(old), plain_text(new)):
            warnings.warn(
                f"`--label {words}` changes nothing: the picture has no `{old}`",
                PictureWarning,
                stacklevel=2,
            )
    if settings.title is not None:
        figure.suptitle(plain_text(settings.title))


def _wrap_titles(figure: Any) -> None:
    """Break titles that are wider than their panel, which the names of runs may be."""
    for axis in figure.axes:
        text, place = axis.get_title(), axis.get_subplotspec()
        if text and "$" not in text and place is not None:  # not within a formula
            points = 72 * figure.get_figwidth() / place.get_gridspec().ncols
            room = max(12, int(points / (0.65 * axis.title.get_fontsize())))
            lines = [piece for line in text.split("\n") for piece in wrap(line, room)]
            axis.title.set_text("\n".join(lines))


def save(
    figure: Any, path: Path, title: str, description: str, settings: PlotSettings = PLAIN
) -> Path:
    """Write `figure` as its path's ending says, with title and description in the file itself."""
    kind = check_path(path)
    _apply_words(figure, settings)
    _wrap_titles(figure)
    # The time of writing is left out: the same picture is the same file.
    described: dict[str, dict[str, str | None]] = {
        "png": {"Title": title, "jeat": description},
        "svg": {"Title": title, "Description": description, "Date": None},
        "pdf": {"Title": title, "Subject": description, "CreationDate": None},
    }
    # A picture of a size that was asked for is neither cropped nor made to fit.
    box = {"bbox_inches": "tight", "pad_inches": 0.06} if _size_by_content() else {}
    if kind == "png":
        check_pixels(*figure.get_size_inches())
    # In memory first: on a full disk the writer of PDFs fails in ways that do not say so.
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata=described[kind], **box)
    if not box:
        warn_if_cut(figure)
    return write_atomic(path, lambda beside: beside.write_bytes(content.getvalue()))
