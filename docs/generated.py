"""Pages made of the code: written, or with `--check` only compared."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def update(pages: Mapping[Path, str]) -> int:
    """Write each page, or return whether any differs from its text."""
    if "--check" not in sys.argv[1:]:
        for path, text in pages.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [path.name for path, text in pages.items() if not current(path, text)]
    for name in stale:
        print(f"docs: {name} differs from the code: run `make pages`", file=sys.stderr)
    return int(bool(stale))


def current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
