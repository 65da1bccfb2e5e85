"""What ends a command: Ctrl-C, the SIGTERM of a scheduler, the SIGHUP of a terminal that closes."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from . import launch

_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
# Seconds within which a signal comes again that was sent once.
_ECHO = 5.0
Answer = Callable[[int, FrameType | None], object]


@dataclass
class _Heard:
    """What has come within the outermost of these contexts."""

    depth: int = 0
    first: float | None = None  # when the first signal came
    raised: bool = False  # whether a `KeyboardInterrupt` was raised for one

    def is_echo(self) -> bool:
        """Note a signal, and tell whether it is one that has come before.

        One of several processes gets each signal twice, from the terminal or the scheduler and
        from `torchrun`, which hands it on: what follows the first at once is no second wish.
        """
        now = time.monotonic()
        if self.first is None:
            self.first = now
            return False
        return launch.several() and now - self.first <= _ECHO


_heard = _Heard()


def interrupt(number: int, frame: FrameType | None) -> None:
    """Answer a signal as Python answers Ctrl-C."""
    _heard.raised = True
    raise KeyboardInterrupt


@contextmanager
def answered_by(answer: Answer = interrupt) -> Iterator[None]:
    """Let a function answer these signals, by default as Ctrl-C; `nohup` still ignores the last."""

    def hear(number: int, frame: FrameType | None) -> None:
        if not _heard.is_echo():
            answer(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _heard.depth += 1
    former = {
        kind: signal.signal(kind, hear)
        for kind in _ENDING
        if kind is signal.SIGINT or signal.getsignal(kind) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for kind, handler in former.items():
            signal.signal(kind, handler)
        _heard.depth -= 1
        if not _heard.depth:
            _heard.first, _heard.raised = None, False


def was_interrupted() -> bool:
    """Tell whether the running command was interrupted, by a signal or by what follows from it.

    What a signal interrupts may go wrong in its own way: a module that is imported lacks a part,
    and what comes out of a callback of Python's import is only printed.
    """
    return _heard.raised


def go_on() -> None:
    """Raise an interrupt again that was lost in a callback."""
    if _heard.raised and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextmanager
def put_off() -> Iterator[None]:
    """Interrupt what is done here after its end, or at once by a second signal.

    An import that is interrupted leaves modules behind that are half there.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            interrupt(number, frame)

    if not _heard.depth:  # the caller's own signals, as of a notebook
        yield
        return
    with answered_by(note):
        yield
    if came:
        interrupt(came[0], None)


@contextmanager
def unheard() -> Iterator[None]:
    """Let none of these signals in, while a process says its last words."""
    with answered_by(lambda number, frame: None):
        yield


def end_at_once() -> None:
    """Let Ctrl-C end this process without a word wherever nothing answers it.

    Python's own way of ending may print the traceback of whatever it interrupts.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
