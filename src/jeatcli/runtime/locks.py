"""Locks between processes; the system frees those of a process that died."""

from typing import IO, Any


def take(handle: IO[Any] | int, wait: bool = False) -> bool:
    """Lock an open file or directory for as long as it is open.

    Returns whether it is locked: False if another process has it, and `wait` is False. Windows has
    no such locks, and nothing is locked there: True.

    Raises:
        OSError: If the file system has no locks, as some network and FUSE file systems.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
