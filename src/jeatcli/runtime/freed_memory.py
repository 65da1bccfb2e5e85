"""Freed memory kept for the next tensors. Imports nothing of the package, so that it runs alone."""

import ctypes
import os
from contextlib import suppress

# The parameters of glibc's `mallopt`.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3


def keep_freed_memory(kept: int = 1 << 30) -> None:
    """Let glibc keep up to so many freed bytes for the next tensors.

    By itself it returns all above 64 MB to the system after each pass of a network, and asks for
    them again page by page in the next one, which takes up to a quarter of the time. Blocks of 32
    MB and more are returned at once, as by itself. Does nothing where another library allocates,
    or where the environment has settings of its own for it.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 32 << 20)
        mallopt(TRIM_THRESHOLD, kept)
