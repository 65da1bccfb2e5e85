"""The published recipes, each a TOML file such as `jeat train -c` reads."""

from pathlib import Path
from typing import Any

from ...catalogue import Catalogue, Entry
from ..resolve import read_toml


def entry(path: Path) -> Entry:
    """Return the row of a file, whose first line is a comment with its summary."""
    with path.open(encoding="utf-8") as lines:
        return Entry(lines.readline().removeprefix("#").strip(), str(path))


PRESETS = Catalogue(
    "preset", {path.stem: entry(path) for path in sorted(Path(__file__).parent.glob("*.toml"))}
)


def file(name: str) -> Path:
    """Return the file of a preset."""
    return Path(PRESETS.match(name)[0].target)


def settings(name: str) -> dict[str, Any]:
    """Return the settings of a preset, as `resolve` takes them."""
    return read_toml(file(name))
