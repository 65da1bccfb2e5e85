"""Disks that are full."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from jeatcli.runtime import files

resource = pytest.importorskip("resource", reason="limits files to play a full disk")


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as a full disk would."""
    former, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (former, hard))


def only_for(*names: str) -> Callable[..., AbstractContextManager[Path]]:
    """Return `files.replacing` for a disk that has room for these files alone."""
    replacing = files.replacing

    @contextmanager
    def where_there_is_room(path: Path, *elsewhere: str) -> Iterator[Path]:
        if path.name not in (*names, "README.md"):
            raise files.unwritable(path, os.strerror(errno.ENOSPC), *elsewhere)
        with replacing(path, *elsewhere) as beside:
            yield beside

    return where_there_is_room
