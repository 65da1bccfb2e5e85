"""What `torchrun` tells each process that it starts, by the environment."""

from __future__ import annotations

import os


def several() -> bool:
    """Tell whether this process is one of several."""
    return _number("WORLD_SIZE", 1) > 1


def first() -> bool:
    """Tell whether this is the process that speaks and writes."""
    return not several() or _number("RANK", 0) == 0


def local_number() -> int:
    """Return the number of this process among those of its machine."""
    return _number("LOCAL_RANK", 0)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
