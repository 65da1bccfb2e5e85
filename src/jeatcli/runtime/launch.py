"""What `torchrun` tells each process that it starts, by the environment."""

import os
import sys
from contextlib import suppress
from typing import NoReturn


def several() -> bool:
    """Tell whether this process is one of several."""
    return _number("WORLD_SIZE", 1) > 1


def first() -> bool:
    """Tell whether this is the process that reports and writes."""
    return not several() or _number("RANK", 0) == 0


def local_number() -> int:
    """Return the number of this process among those of its machine."""
    return _number("LOCAL_RANK", 0)


def local_size() -> int:
    """Return the number of processes on this machine, as far as this one is told."""
    return max(_number("LOCAL_WORLD_SIZE", 1), local_number() + 1)


def leave(code: object) -> NoReturn:
    """End this process at once, with the exit code of a `SystemExit`.

    The threads of torch's process group outlive its destruction, and may abort a process that is
    done when the interpreter shuts down.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
