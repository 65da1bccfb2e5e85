"""A result as one HTML file, which needs no network: tables, pictures and how it was measured."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from ..runtime.files import write_atomic
from ..runtime.outputs import report_of
from ..runtime.plain import plain
from . import output
from .output import Section

_KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
# So much of the numbers is listed; the whole is below the list.
_LONGEST = 60
_STYLE = Path(__file__).with_name("assets") / "report.css"


@dataclass(frozen=True)
class Picture:
    """A picture of a report: its ending, its content, and what it shows."""

    ending: str
    content: bytes
    caption: str

    @classmethod
    def of(cls, path: Path, caption: str) -> Picture:
        """Read a picture from a file."""
        return cls(path.suffix.lower(), path.read_bytes(), caption)

    @classmethod
    def drawn(cls, draw: Callable[[Path], object], caption: str) -> Picture:
        """Let `draw` write an SVG, and keep its content."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "figure.svg"
            draw(path)
            return cls.of(path, caption)


def is_page(path: Path | None) -> bool:
    """Tell whether an output is to be a report."""
    return path is not None and path.suffix.lower() in (".html", ".htm")


def headline(names: Sequence[str]) -> str:
    """Name the runs of a report for its title; many of them are in the tables alone."""
    different = list(dict.fromkeys(names))
    return ", ".join(different) if len(different) <= 5 else f"{len(different)} runs"


@dataclass(frozen=True)
class Page:
    """A report: the command as it is typed, tables, pictures, and how it was measured."""

    title: str
    command: str
    document: Mapping[str, Any]  # what the command prints with `--json`
    sections: Sequence[Section]
    pictures: Sequence[Picture]

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        page = "\n".join(self._lines(plain(self.document)))
        write_atomic(path, lambda beside: beside.write_text(page, encoding="utf-8"))

    def _lines(self, document: Mapping[str, Any]) -> Iterator[str]:
        yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
        yield report_of(str(document["command"])).marks[0].decode()
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        style, title = _STYLE.read_text(encoding="utf-8"), _text(self.title)
        yield f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>"
        now = datetime.now(UTC)
        yield f'<h1>{title}</h1>\n<p class="lead">{now.day} {now:%B %Y, %H:%M} UTC</p>'
        yield f"<pre>{_text(self.command)}</pre>"
        flags = [flag for result in _objects(document) for flag in result.get("warnings", ())]
        for text in dict.fromkeys(str(flag["text"]) for flag in flags):
            yield f'<p class="doubt">{_text(text)}</p>'
        for section in self.sections:
            yield _table(section)
            yield from (f'<p class="note">{_text(note)}</p>' for note in section.notes)
        for picture in self.pictures:
            content = base64.b64encode(picture.content).decode()
            source = f"data:{_KINDS[picture.ending]};base64,{content}"
            caption = _text(picture.caption)
            yield f'<figure><img src="{source}" alt="{caption}">'
            yield f"<figcaption>{caption}</figcaption></figure>"
        facts = _facts(document).items()
        yield "<h2>How it was measured</h2>\n<dl>"
        yield from (f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in facts)
        yield "</dl>\n<details><summary>All numbers, as JSON</summary>"
        yield f"<pre>{_text(json.dumps(document, indent=1, ensure_ascii=False))}</pre></details>"
        version = document.get("version") or _objects(document)[0].get("version", "")
        yield f"<footer>Written by jeat-cli {_text(version)}.</footer>"
        yield "</main>\n</body>\n</html>\n"


def _text(value: object) -> str:
    """Escape a text for HTML; what a terminal would obey, and no UTF-8 has, is written out."""
    clean = output.clean(output.cell_text(value))
    return escape(clean.encode("utf-8", "backslashreplace").decode())


def _table(section: Section) -> str:
    rows = output.cell_texts(section.rows)
    numeric = output.numeric_columns(section.rows, section.header)
    lines = []
    if section.header:
        cells = zip(rows.pop(0), numeric, strict=True)
        head = "".join(f"<th{_kind(right)}>{_text(cell)}</th>" for cell, right in cells)
        lines.append(f"<thead><tr>{head}</tr></thead>")
    body = []
    for first, *rest in rows:
        cells = zip(rest, numeric[1:], strict=True)
        others = "".join(f"<td{_kind(right)}>{_text(cell)}</td>" for cell, right in cells)
        body.append(f'<tr><th scope="row">{_text(first)}</th>{others}</tr>')
    lines.append(f"<tbody>{''.join(body)}</tbody>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _kind(right: bool) -> str:
    return ' class="number"' if right else ""


def _objects(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the results of a document: its own, or each of several."""
    results = document.get("results")
    return results if isinstance(results, list) else [document]


def _facts(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what the numbers depend on: short values, of several results what they share."""
    results = [dict(_flat(result)) for result in _objects(document)]
    shared = dict(_flat({key: value for key, value in document.items() if key != "results"}))
    same = {key for key, value in results[0].items() if all(r.get(key) == value for r in results)}
    return shared | {key: value for key, value in results[0].items() if key in same}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts, numbers and short lists in an object, by their path in words."""
    for key, value in values.items():
        if key in ("warnings", "schema", "command", "outputs") or value in (None, [], {}):
            continue
        name = f"{before}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            if len(value) <= _LONGEST:
                yield from _flat(value, f"{name}, ")
        elif isinstance(value, list):
            if len(value) <= _LONGEST and not any(isinstance(item, dict | list) for item in value):
                items = ("-" if item is None else output.inline(item) for item in value)
                yield name, ", ".join(items)
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, output.inline(value)
