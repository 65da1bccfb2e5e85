"""What `jeat landscape` shows: one file a kind, its fields are its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .. import registry
from ..errors import UsageProblem
from ._base import Findings, Scene, View

__all__ = ["Findings", "Scene", "View", "make"]


def make(kind: str, settings: Mapping[str, Any]) -> View:
    """Build the view called `kind`; settings that are None are left to their defaults.

    Raises:
        UsageProblem: If there is no such kind, it has no such setting, or a value is out of range.
    """
    view: type[View] = registry.get("views", kind, "kind").VIEW
    known = [each.name for each in fields(view)]
    said = {key: value for key, value in settings.items() if value is not None}
    for key in said:
        if key not in known:
            raise UsageProblem(
                f"`--{_option(key)}` does nothing for `--kind {kind}`",
                f"its settings are: {', '.join(map(_option, known))}",
            )
    return view(**said)


def _option(field: str) -> str:
    """Return the option of a field; one that would be a word of Python's ends in `_`."""
    return field.rstrip("_").replace("_", "-")
