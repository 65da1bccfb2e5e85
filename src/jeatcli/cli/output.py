"""What the user gets, on stdout: one JSON object, or lines and tables.

Texts may come from files of others, such as the names of classes: `write` here and
`terminal.Terminal.say` are the places that print, and both `clean` what they print.
"""

import json
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

import click

from ..errors import JeatError
from ..runtime import launch
from ..runtime.plain import plain

# What a terminal obeys: control characters but tab and line feed, and marks of writing direction.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# How Python holds the bytes of a file name that is no UTF-8.
_BYTES = re.compile("[\udc80-\udcff]")
# A number as a text, which may have a unit; and what stands where there is none.
_NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?( (%|[kMG]?B))?")
_MISSING = ("-", "none", "not finite")
# Between these the largest number of a column needs no exponent.
_SMALL, _LARGE = 1e-4, 1e7
# The last column of a table for a narrow terminal has at least this width.
_ROOM = 20
# Of the objects that `--json` prints; docs/files.md lists the keys that all share.
SCHEMA = 1
# What the running command has warned of on stderr, where `--quiet` and scripts do not look.
WARNED: list[str] = []


@dataclass(frozen=True)
class Section:
    """A table of a result and what is said below it: for the terminal, a report, a model card."""

    rows: Sequence[Sequence[object]]  # cells, floats as numbers
    notes: Sequence[str] = ()  # lines below the table
    header: bool = True  # whether the first row is one; else the first column names each row

    def text(self) -> str:
        """Write it; where it is too wide for the terminal, in blocks and broken at spaces."""
        width, text = room(), table(self.rows)
        if width is None:
            return "\n".join([text, *self.notes])
        if any(columns(line) > width for line in text.splitlines()):
            text = _narrow(self, width)
        return "\n".join([text, *(_broken(note, width, "") for note in self.notes)])


def document(command: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result as the object that `--json` prints, led by its schema and its command.

    Its `warnings` are those of the result and whatever else the command has warned of.
    """
    own = [
        flag for part in (result, *result.get("results", ())) for flag in part.get("warnings", ())
    ]
    others = [
        {"name": "other", "text": text}
        for text in dict.fromkeys(WARNED)
        if not any(flag["text"] in text or text in flag["text"] for flag in own)
    ]
    warnings = {"warnings": [*result.get("warnings", ()), *others]}
    return {"schema": SCHEMA, "command": command, **result, **warnings}


def written(**files: Path | None) -> dict[str, dict[str, str]]:
    """Return the key `outputs`: the files that were written, by what they are."""
    return {"outputs": {key: str(path) for key, path in files.items() if path is not None}}


def emit(result: object, as_json: bool, human: Callable[[], str]) -> None:
    """Print the result on stdout: one JSON object, or what `human` returns."""
    write(json.dumps(plain(result), allow_nan=False) if as_json else human())


def write(text: str) -> None:
    """Print a text on stdout; of several processes only the first does.

    Of a path that is no UTF-8 the bytes are printed, as scripts need them.
    """
    if launch.first():
        click.echo(os.fsencode(clean(text)) if _BYTES.search(text) else clean(text, sys.stdout))


def clean(text: str, stream: TextIO | None = None) -> str:
    """Escape what a terminal would obey, and what `stream` cannot print."""
    text = _COMMANDS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    if stream is None:
        return text
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class Files:
    """What a command writes beside its result, which is shown whatever keeps them from it."""

    def __init__(self, **files: Path | None) -> None:
        self.written = {kind: path for kind, path in files.items() if path is not None}
        self.failure: JeatError | None = None

    @contextmanager
    def writing(self, kind: str) -> Iterator[None]:
        """Leave a file out where it cannot be written, and remember why."""
        try:
            yield
        except JeatError as problem:
            self.failure = self.failure or problem
            self.written.pop(kind, None)

    def end(self) -> None:
        """Fail if anything could not be written, once the result is shown."""
        if self.failure is not None:
            raise self.failure


def room() -> int | None:
    """Return the width of the terminal on stdout, None where that is a file or a pipe."""
    there = sys.stdout and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if there else None


def lay_out(sections: Iterable[Section]) -> str:
    """Write tables for a terminal."""
    return "\n\n".join(section.text() for section in sections)


def table(rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows in columns, those of numbers to the right."""
    cells = cell_texts(rows)
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    right = numeric_columns(rows)
    return "\n".join(
        "  ".join(
            " " * (width - columns(cell)) + cell if flush else cell + " " * (width - columns(cell))
            for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    )


def _narrow(section: Section, width: int) -> str:
    """Write a table for a narrow terminal: a block for each row below a header."""
    cells = cell_texts(section.rows)
    if not section.header:
        return _labelled(cells, width)
    titles, *rows = cells
    return "\n\n".join(_labelled(list(zip(titles, row, strict=True)), width) for row in rows)


def _labelled(cells: Sequence[Sequence[str]], width: int) -> str:
    """Write rows whose last cell is broken at spaces, as is the whole row where it has no room."""
    widths = [max(map(columns, column)) for column in [*zip(*cells, strict=True)][:-1]]
    left = sum(widths) + 2 * len(widths)
    if width - left < _ROOM:
        return "\n".join(_broken("  ".join(filter(None, row)), width, "    ") for row in cells)
    lines = []
    for *first, last in cells:
        padded = [c + " " * (most - columns(c)) for c, most in zip(first, widths, strict=True)]
        lines.append(_broken("  ".join([*padded, last]).rstrip(), width, " " * left))
    return "\n".join(lines)


def _broken(text: str, width: int, indent: str) -> str:
    """Break a line at spaces where it is wider than the terminal; names and paths stay whole."""
    if columns(text) <= width:
        return text
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def columns(text: str) -> int:
    """Count the columns of a terminal that a text takes: two for a Chinese character."""
    wide = sum(east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(combining(each) > 0 for each in text)


def numeric_columns(rows: Sequence[Sequence[object]], header: bool = True) -> list[bool]:
    """Return which columns hold numbers; the first row may be a header, and does not count.

    The first column names the rows, and holds none though a run's name be one.
    """
    below = rows[1:] if header and len(rows) > 1 else rows
    return [k > 0 and _are_numbers([row[k] for row in below]) for k in range(len(rows[0]))]


def cell_texts(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    """Write the cells of a table; the floats of a column have the same decimals."""
    writers = [
        _column([cell for cell in column if isinstance(cell, float)])
        for column in zip(*rows, strict=True)
    ]
    return [
        [
            write(cell) if isinstance(cell, float) else str(cell)
            for cell, write in zip(row, writers, strict=True)
        ]
        for row in rows
    ]


def _column(values: Sequence[float]) -> Callable[[float], str]:
    """Return what writes the numbers of a column: four digits of the largest, two of the smallest.

    Those that four decimals do not show have an exponent; so have all where four show none, or
    where one is very large.
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes or not _SMALL <= max(sizes) < _LARGE:
        return measured
    high, low = (math.floor(math.log10(size)) for size in (max(sizes), min(sizes)))
    decimals = max(3 - high, min(1 - low, 4), 0)

    def write(value: float) -> str:
        if not math.isfinite(value):
            return measured(value)
        return f"{value:.1e}" if 0 < abs(value) < 10**-decimals else f"{value:.{decimals}f}"

    return write


def cell_text(cell: object) -> str:
    """Write a cell by itself."""
    return measured(cell) if isinstance(cell, float) else str(cell)


def inline(value: Any) -> str:
    """Write a setting, or several, on one line: `steps 60, step size 0.5`, `cat, dog`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {inline(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(inline, value))
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Write a setting with four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def measured(value: float) -> str:
    """Write what was measured with four significant digits, zeros too."""
    return f"{value:#.4g}".removesuffix(".") if math.isfinite(value) else "not finite"


def percent(share: float) -> str:
    """Write a fraction in [0, 1] as `45.30 %`."""
    return f"{100 * share:.2f} %" if math.isfinite(share) else "not measured"


def size(count: float) -> str:
    """Write a number of bytes as `1.20 GB`, with three digits."""
    power = min(3, int(math.log10(count) / 3)) if count >= 1 else 0
    value = count / 1000**power
    # Not `.3g` alone, by which 999,999 bytes would be 1e+03 kB.
    digits = f"{value:.0f}" if value >= 100 or not power else f"{value:#.3g}".removesuffix(".")
    return f"{digits} {('B', 'kB', 'MB', 'GB')[power]}"


def _are_numbers(column: Sequence[object]) -> bool:
    """Tell whether a column holds numbers, some of which may be missing."""
    there = [cell for cell in column if cell not in _MISSING]
    return bool(there) and all(
        isinstance(cell, int | float) or _NUMBER.fullmatch(str(cell)) for cell in there
    )
