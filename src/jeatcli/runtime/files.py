"""Where things lie on disk, and how a file is written so that nothing is ever half there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import JeatError, UsageProblem

# A full disk, a used-up quota, a limit on the size of files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _place(variable: str, kind: str, *below: str) -> Path:
    if value := os.environ.get(variable):
        return expand(value)
    import platformdirs

    root = platformdirs.user_data_dir if kind == "data" else platformdirs.user_cache_dir
    return Path(root("jeat", appauthor=False)).joinpath(*below)


def expand(path: str | Path) -> Path:
    """Return a path with `~` and `~NAME` replaced by the home directories they stand for.

    Raises:
        UsageProblem: If there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageProblem(
            f"there is no home directory for `{path}`", "write the path in full"
        ) from None


def runs_dir() -> Path:
    """Return the directory in which runs with a bare name live (`JEAT_RUNS_DIR`)."""
    return _place("JEAT_RUNS_DIR", "data", "runs")


def cache_dir() -> Path:
    """Return the directory of what can be made or fetched again (`JEAT_CACHE_DIR`)."""
    return _place("JEAT_CACHE_DIR", "cache")


def data_dir(given: Path | str | None = None) -> Path:
    """Return the directory of the data sets: `given`, `JEAT_DATA_DIR`, or below the cache."""
    if given is not None:
        return expand(given)
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
    check_writable(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        usual = beside.stat().st_mode
        write(beside)
        # safetensors makes files that their owner alone can read; those of a run are for all
        # whom the umask lets read the rest of it.
        if beside.stat().st_mode != usual:
            beside.chmod(usual)
        with beside.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(beside, path)
    except Exception as problem:
        if reason := _disk_trouble(problem):
            raise _unwritable(path, reason) from problem
        raise
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return path


def append(path: Path, text: str) -> None:
    """Add `text` to the end of a file.

    Raises:
        JeatError: If it cannot be written.
    """
    with writing(path), path.open("a", encoding="utf-8") as handle:
        handle.write(text)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Put into words what keeps `path` from being written.

    Raises:
        JeatError: For an error of the operating system.
    """
    try:
        yield
    except OSError as problem:
        raise _unwritable(path, problem.strerror or str(problem)) from problem


def check_writable(path: Path) -> None:
    """Find what would keep `path` from being written, before the work for it begins.

    Raises:
        JeatError: If a directory is in its place, a file in its way, or permission lacking.
    """
    there = next((each for each in path.parents if os.path.exists(each)), Path("."))
    if os.path.isdir(path):
        raise _unwritable(path, "it is a directory")
    if not os.path.isdir(there):
        raise _unwritable(path, f"`{there}` is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(path, f"no permission in `{there}`")


def _unwritable(path: Path, reason: str) -> JeatError:
    full = reason in [os.strerror(code) for code in _FULL]
    place = "name another place with `-o`"
    return JeatError(
        f"cannot write `{path}`: {reason}",
        f"free some space and run it again, or {place}" if full else place,
    )


def _disk_trouble(problem: Exception) -> str | None:
    """Return what the operating system objects to, or None if it is something else."""
    if isinstance(problem, OSError):
        return problem.strerror or str(problem)
    # safetensors reports the operating system's errors as text in an exception of its own.
    text = str(problem)
    for code in (*_FULL, errno.EACCES, errno.EROFS):
        if os.strerror(code).lower() in text.lower() or f"os error {code})" in text:
            return os.strerror(code)
    return None
