"""How much freed memory glibc keeps while a contender computes: as it would in its own process."""

from __future__ import annotations

import ctypes
from contextlib import suppress

from jeatcli.runtime.freed_memory import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_freed_memory

OURS = ("jeat", "sample")


def set_for(contender: str) -> None:
    """Set the limits of a `jeat` command, or those that glibc comes to by itself.

    Where tensors of 32 MB or more are freed those are its highest ones.
    """
    if contender in OURS:
        keep_freed_memory()
        return
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 32 << 20)
        mallopt(TRIM_THRESHOLD, 64 << 20)
