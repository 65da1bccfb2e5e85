"""What ends a command: Ctrl-C, the SIGTERM of a scheduler, the SIGHUP of a terminal that closes."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def answered_by(
    answer: Callable[[int, FrameType | None], object] = signal.default_int_handler,
) -> Iterator[None]:
    """Let a function answer these signals, by default as Ctrl-C; `nohup` still ignores the last."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {
        kind: signal.signal(kind, answer)
        for kind in _ENDING
        if kind is signal.SIGINT or signal.getsignal(kind) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for kind, handler in former.items():
            signal.signal(kind, handler)
