"""Where things lie on disk, and writing that is all or nothing."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from ..errors import JeatError, UsageProblem

# A full disk, a used-up quota, a limit on the size of files.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A temporary file of another machine as old as this belongs to a process that is gone.
_STALE_SECONDS = 24 * 3600.0
TEMPORARY = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}\.tmp")
_LONGEST_NAME = 80


def _place(variable: str, kind: str, *below: str) -> Path:
    if value := os.environ.get(variable):
        return expand(value)
    import platformdirs

    root = platformdirs.user_data_dir if kind == "data" else platformdirs.user_cache_dir
    return Path(root("jeat", appauthor=False)).joinpath(*below)


def runs_dir() -> Path:
    """Return the directory in which runs with a bare name live (`JEAT_RUNS_DIR`)."""
    return _place("JEAT_RUNS_DIR", "data", "runs")


def cache_dir() -> Path:
    """Return the directory of what can be recreated or downloaded again (`JEAT_CACHE_DIR`)."""
    return _place("JEAT_CACHE_DIR", "cache")


def data_dir(explicit: Path | str | None = None) -> Path:
    """Return the directory of the data sets: `explicit`, `JEAT_DATA_DIR`, or below the cache."""
    place = os.environ.get("JEAT_DATA_DIR") if explicit is None else explicit
    return expand(place) if place else cache_dir() / "data"


def expand(path: Path | str) -> Path:
    """Return a path whose `~` or `~NAME` is replaced by that user's home directory."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        name = Path(path).parts[0]
        raise UsageProblem(
            f"`{path}`: `{name}` is not the home directory of any user here",
            f"write `./{name}` for a file of that name",
        ) from None


def safe_name(text: str) -> str:
    """Return a text, such as the name of a class, as a part of a path.

    Letters, digits, `-`, `_` and single dots stay; anything else becomes `_`. The result is short
    and never names a parent or hidden directory.
    """
    name = re.sub(r"[^\w.-]|\.(?=\.)", "_", text).lstrip(".-")
    short = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return short.rstrip(".") or "_"


def write_atomic(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a new file of that name elsewhere, then move it to `path`."""
    check_writable(path)
    with replacing(path) as file:
        with file.open("x") as handle:
            usual = os.fstat(handle.fileno()).st_mode
        write(file)
        # safetensors makes files that their owner alone can read, whatever the umask lets others.
        if file.stat().st_mode != usual:
            file.chmod(usual)
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
    return path


@contextmanager
def replacing(path: Path, elsewhere: str = "name another place") -> Iterator[Path]:
    """Give a path of that name to fill with a file or a directory, then move it to `path`.

    A reader sees the old file or the new one, even where the disk is full. What killed processes
    left is removed; a directory that another process has put at `path` meanwhile is kept.

    The path is in a directory beside `path`, in which libraries may leave files of their own, as
    safetensors does when it is killed. Its unguessable name keeps two processes from meeting in it,
    and links out of its way.
    """
    folder = temporary_beside(path)
    with made(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent.absolute())
            folder.mkdir()
            yield folder / path.name
            try:
                os.replace(folder / path.name, path)
            except OSError as problem:
                if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not path.is_dir():
                    raise
        except Exception as problem:
            if reason := _disk_trouble(problem):
                raise unwritable(path, reason, elsewhere) from problem
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Remove what is made of a directory and its parents meanwhile if nothing is put there."""
    new = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        yield
    finally:
        for each in new:  # the innermost first
            with suppress(OSError):
                each.rmdir()


def temporary_beside(path: Path) -> Path:
    """Return an unguessable path beside `path`, for a directory."""
    short = os.fsencode(path.name)[:_LONGEST_NAME].decode(errors="ignore")
    return path.with_name(f".{short}.{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp")


@cache
def _machine() -> str:
    """Return a digest of this machine and of its name space of processes."""
    space = ""
    with suppress(OSError, AttributeError):
        space = os.readlink("/proc/self/ns/pid")
    node = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return hashlib.sha256(f"{node} {space}".encode()).hexdigest()[:8]


@cache
def sweep(folder: Path) -> None:
    """Remove what killed processes left in a directory, once a process."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if (match := TEMPORARY.fullmatch(entry.name)) and _is_stale(entry, match):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry, ignore_errors=True)
                else:  # older versions had files, too
                    os.unlink(entry)


def _is_stale(entry: os.DirEntry[str], match: re.Match[str]) -> bool:
    if match["machine"] != _machine() or sys.platform == "win32":
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS
    try:
        with suppress(PermissionError):  # alive, and another user's
            os.kill(int(match["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    return False


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def append(path: Path, text: str) -> None:
    """Add `text` to the end of a file."""
    with writing(path), path.open("a", encoding="utf-8") as handle:
        handle.write(text)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in the user's words what keeps `path` from being written."""
    try:
        yield
    except OSError as problem:
        raise unwritable(path, problem.strerror or str(problem)) from problem


def check_writable(path: Path, option: str = "-o") -> None:
    """Refuse a path that cannot be written, before the work for it begins."""
    existing = next((parent for parent in path.parents if os.path.exists(parent)), Path("."))
    elsewhere = f"name another place with `{option}`"
    if os.path.isdir(path):
        raise unwritable(path, "it is a directory", elsewhere)
    if not os.path.isdir(existing):
        raise unwritable(path, f"`{existing}` is a file", elsewhere)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise unwritable(path, f"no permission in `{existing}`", elsewhere)


def unwritable(path: Path, reason: str, elsewhere: str = "name another place") -> JeatError:
    """Return the error that names what cannot be written, and why."""
    full = reason in [os.strerror(code) for code in FULL]
    return JeatError(
        f"cannot write `{path}`: {reason}",
        f"free some space and run it again, or {elsewhere}" if full else elsewhere,
    )


def _disk_trouble(problem: Exception) -> str | None:
    """Return the operating system's reason for a failure, or None if it is another failure."""
    if isinstance(problem, OSError):
        return problem.strerror or str(problem)
    if type(problem).__module__.startswith("jeatcli"):
        return None
    # safetensors reports the operating system's errors as text in an exception of its own.
    text = str(problem)
    for code in (*FULL, errno.EACCES, errno.EROFS):
        if os.strerror(code).lower() in text.lower() or f"os error {code})" in text:
            return os.strerror(code)
    return None
