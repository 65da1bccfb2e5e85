"""Write the tree in docs/house.md from the docstrings of the rooms; with --check, only compare."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from generated import update

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "jeatcli"
PAGE = ROOT / "docs" / "house.md"
BEGIN, END = "<!-- tree: written by docs/generate_house.py -->", "<!-- end of the tree -->"


def docstring(file: Path) -> str:
    """Return the docstring of a Python file."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def summary(file: Path) -> str:
    """Return the first line of a file's docstring, without its full stop."""
    return docstring(file).partition("\n")[0].rstrip(".")


def rows(folder: Path, depth: int = 0) -> list[str]:
    """Return a line for each file and folder: its name, and what it says of itself."""
    lines = []
    indent = "  " * depth
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.suffix == ".py" and path.name != "__init__.py":
            lines.append(f"{indent + path.name:<23}{summary(path)}")
        elif (path / "__init__.py").is_file():
            lines.append(f"{indent + path.name + '/':<23}{summary(path / '__init__.py')}")
            lines += rows(path, depth + 1)
    return lines


def rooms() -> list[str]:
    """Return a paragraph for each room: what may live there, and what it may import."""
    found = []
    for init in sorted(PACKAGE.glob("*/__init__.py")):
        text = " ".join(docstring(init).split())
        found.append(f"- **{init.parent.name}**: {text}")
    return found


def tree() -> str:
    """Return the generated part of the page."""
    listing = "\n".join(line.rstrip() for line in rows(PACKAGE))
    return f"{BEGIN}\n\n```text\n{listing}\n```\n\n" + "\n".join(rooms()) + f"\n\n{END}"


def page() -> str:
    """Return the page with the tree as the code has it now."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    return before + tree() + after


def pages() -> dict[Path, str]:
    """Return what is written, by path."""
    return {PAGE: page()}


if __name__ == "__main__":
    sys.exit(update(pages()))
