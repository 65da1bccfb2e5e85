"""Which of several processes reports a failure: one does for all that meet it.

The first does, if it meets the failure too. The others wait a moment for that, as `torchrun` ends
the first, which may be about to speak, as soon as another one has ended.
"""

import time
from contextlib import suppress
from hashlib import sha256
from typing import Protocol

from ..errors import Diverged, Interrupted, JeatError, RankLost, UsageProblem
from . import interrupts, launch

# Seconds that a process waits for the first one to report a failure, and for it to end then.
_WAIT, _END = 3.0, 0.2
_PAUSE = 0.05


class Store(Protocol):
    """What is asked of one of torch's stores."""

    def set(self, key: str, value: str, /) -> None: ...

    def check(self, keys: list[str], /) -> bool: ...

    def add(self, key: str, amount: int, /) -> int: ...


# That in which the processes meet, once they have.
_store: Store | None = None


def meet(store: Store | None) -> None:
    """Let the processes tell one another by a store what they have reported."""
    global _store
    _store = store


def speaks(failure: JeatError) -> bool:
    """Tell whether this process is to report a failure; all but the first may wait before."""
    if launch.first():
        return True
    if _store is None and not launch.local_number() and not failure.reported:
        return True  # something may be missing on this machine alone
    # What all processes meet is left to the first one, however long it takes.
    of_all = failure.reported or isinstance(failure, UsageProblem | Diverged | Interrupted)
    if interrupts.was_interrupted() and of_all:
        return False  # the first one may be waiting for what this process was to compute
    return not (wait_for_first(failure) or of_all or _is_claimed(failure))


def told(failure: JeatError) -> None:
    """Let the other processes know that a failure is reported."""
    if _store is not None:
        with suppress(Exception):  # the process that serves it may have died
            for key in _keys(failure):
                _store.set(key, "")


def wait_for_first(failure: JeatError | None = None) -> bool:
    """Wait a moment for the first process to report a failure; return whether it has."""
    until = time.monotonic() + _WAIT
    # A signal comes from `torchrun`, since the first process has ended.
    with suppress(KeyboardInterrupt), interrupts.answered_by():
        while time.monotonic() < until:
            if failure is not None and _is_told(failure):
                time.sleep(_END)
                return True
            time.sleep(_PAUSE)
        return False
    return True


def _is_told(failure: JeatError) -> bool:
    own, any_failure = _keys(failure)
    # A process that has told why it ends leaves nothing to say to those that lose it.
    key = any_failure if isinstance(failure, RankLost) else own
    with suppress(Exception):
        return _store is not None and _store.check([key])
    return False


def _is_claimed(failure: JeatError) -> bool:
    """Return whether another process, not the first, reports it; otherwise this one has to."""
    with suppress(Exception):
        return _store is not None and _store.add(f"claimed {_keys(failure)[0]}", 1) > 1
    return False


def _keys(failure: JeatError) -> tuple[str, str]:
    """Return the keys that are set when this failure, and when any, is reported."""
    return f"told {sha256(failure.message.encode(errors='replace')).hexdigest()}", "told"
