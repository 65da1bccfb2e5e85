"""Another number of threads than the tests have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def in_threads(count: int, run: Callable[[], Result]) -> Result:
    """Return what a function returns in that many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return run()
    finally:
        torch.set_num_threads(before)
