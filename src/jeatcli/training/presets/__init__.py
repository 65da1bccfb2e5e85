"""The published recipes, each a TOML file such as `jeat train -c` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import unknown
from ..resolve import read_toml

_HERE = Path(__file__).parent


def summaries() -> dict[str, str]:
    """Return the presets and what each is, the first line of its file."""
    found = {}
    for path in sorted(_HERE.glob("*.toml")):
        with path.open(encoding="utf-8") as lines:
            found[path.stem] = lines.readline().removeprefix("#").strip()
    return found


def file(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        UsageProblem: If there is none, with the nearest name.
    """
    if name not in summaries():
        raise unknown("preset", name, summaries())
    return _HERE / f"{name}.toml"


def settings(name: str) -> dict[str, Any]:
    """Return the settings of a preset, as `config.resolve` takes them.

    Raises:
        UsageProblem: If there is none, with the nearest name.
    """
    return read_toml(file(name))
