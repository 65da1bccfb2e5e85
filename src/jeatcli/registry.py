"""The things that live one to a file: methods, attacks, architectures.

They are found by listing a folder and described by the first line of each file's
docstring, so that `--help` and completion know them without importing torch.
"""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from .errors import unknown

_HERE = Path(__file__).parent


@cache
def summaries(folder: str) -> dict[str, str]:
    """Return the first docstring line of every file of `folder`, by file name."""
    found = {}
    for file in sorted((_HERE / folder).glob("[!_]*.py")):
        doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        found[file.stem] = doc.partition("\n")[0].rstrip(".")
    return found


def names(folder: str) -> list[str]:
    """Return the names in `folder` as the user writes them, dashes for underscores."""
    return [stem.replace("_", "-") for stem in summaries(folder)]


def get(folder: str, name: str, kind: str) -> ModuleType:
    """Import the file of `folder` called `name`.

    Raises:
        UsageProblem: If there is none, with the nearest name.
    """
    stem = name.replace("-", "_")
    if stem not in summaries(folder):
        raise unknown(kind, name, names(folder))
    return importlib.import_module(f".{folder}.{stem}", __package__)
