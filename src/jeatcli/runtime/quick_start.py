"""torch imported, and at the end of the process left, in less time."""

import atexit
import gc
import sys

from .freed_memory import keep_freed_memory
from .interrupts import put_off


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
