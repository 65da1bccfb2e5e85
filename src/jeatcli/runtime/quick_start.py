"""torch imported, and at the end of the process left, in less time; memory kept for its tensors."""

import atexit
import ctypes
import gc
import os
import sys
from contextlib import suppress

from .interrupts import put_off

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


def import_torch() -> None:
    """Import torch without Python's garbage collector, and keep its objects out of collections.

    The objects of torch's modules, hundreds of thousands, stay to the end. To look for garbage
    among them, many times while they are made and once more as the process ends, takes half as
    long as all the rest of the import. A command calls this before it imports what needs torch. The
    numbers that a network draws by itself begin the same in each command.
    """
    keep_freed_memory()
    if "torch" not in sys.modules:
        gc.disable()
        try:
            with put_off():
                import torch
        finally:
            gc.freeze()
            gc.enable()
        atexit.register(gc.freeze)
    import torch

    torch.default_generator.manual_seed(0)
