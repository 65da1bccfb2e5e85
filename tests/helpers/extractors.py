"""Rows of the table of published networks that tests can serve themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jeatcli.scoring.settings import EXTRACTORS


def publish(patch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """Change what is published of a network."""
    patch.setitem(EXTRACTORS._entries, name, replace(EXTRACTORS[name], **changes))
