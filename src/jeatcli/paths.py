"""Where things lie on disk, and how a file is written so that nothing is ever half there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from .errors import JeatError


def _place(variable: str, kind: str, *below: str) -> Path:
    if value := os.environ.get(variable):
        return Path(value).expanduser()
    import platformdirs

    root = platformdirs.user_data_dir if kind == "data" else platformdirs.user_cache_dir
    return Path(root("jeat", appauthor=False)).joinpath(*below)


def runs_dir() -> Path:
    """Return the directory in which runs with a bare name live (`JEAT_RUNS_DIR`)."""
    return _place("JEAT_RUNS_DIR", "data", "runs")


def cache_dir() -> Path:
    """Return the directory of what can be made or fetched again (`JEAT_CACHE_DIR`)."""
    return _place("JEAT_CACHE_DIR", "cache")


def data_dir(given: Path | str | None = None) -> Path:
    """Return the directory of the data sets: `given`, `JEAT_DATA_DIR`, or below the cache."""
    if given is not None:
        return Path(given).expanduser()
    if "JEAT_DATA_DIR" in os.environ:
        return _place("JEAT_DATA_DIR", "cache")
    return cache_dir() / "data"


def write_atomic(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then rename it over `path`.

    A reader sees the old file or the new one, never a part of either, and a full disk
    leaves the old one as it was.

    Raises:
        JeatError: If the directory cannot be made or the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        with beside.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(beside, path)
    except Exception as problem:
        beside.unlink(missing_ok=True) if beside.parent.is_dir() else None
        if reason := _disk_trouble(problem):
            raise JeatError(
                f"cannot write `{path}`: {reason}",
                "free some space, or name a writable place with `-o`",
            ) from problem
        raise
    return path


def _disk_trouble(problem: Exception) -> str | None:
    """Return what the operating system objects to, or None if it is something else."""
    if isinstance(problem, OSError):
        return problem.strerror or str(problem)
    # safetensors reports the operating system's errors as text in an exception of its own.
    text = str(problem)
    for code in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG):
        if os.strerror(code).lower() in text.lower() or f"os error {code}" in text:
            return os.strerror(code)
    return None
