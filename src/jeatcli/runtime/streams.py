"""The standard streams of a process: closed by who started it, or on a disk that is full."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def open_closed() -> None:
    """Open the null device for standard streams that are closed, as by `>&-` or a service.

    Otherwise Python has None for them, and the next file that is opened takes their number: what
    a library writes to stderr would get into a checkpoint.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free, which is that of the stream.
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", errors="replace"))


def let_go(stream: TextIO) -> None:
    """Drop what a stream cannot write, or Python tries again at the end, and fails."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def last_words() -> Iterator[None]:
    """Write to a stderr that may be full, or without a reader: the exit code tells it as well."""
    try:
        yield
    except OSError:
        let_go(sys.stderr)
