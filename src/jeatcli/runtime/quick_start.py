"""torch imported, and at the end of the process left, in less time."""

import atexit
import gc
import sys


def import_torch() -> None:
    """Import torch without Python's garbage collector, and keep its objects out of collections.

    The objects of torch's modules, hundreds of thousands, stay to the end. To look for garbage
    among them, many times while they are made and once more as the process ends, takes half as
    long as all the rest of the import. A command calls this before it imports what needs torch.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
    atexit.register(gc.freeze)
