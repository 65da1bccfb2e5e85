"""Where things lie on disk, which outputs may be written, and writing that is all or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import JeatError, UsageProblem

# A full disk, a used-up quota, a limit on the size of files.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A temporary file of another machine as old as this belongs to a process that is gone.
_STALE_SECONDS = 24 * 3600.0
TEMPORARY = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}\.tmp")
# How much of each end of a file is searched for a product's marks.
_SEARCHED = 1 << 18
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Product:
    """A kind of file that a command writes, and may therefore write over.

    Args:
        command, endings: What writes it, and its endings, in lower case.
        marks: Byte strings, one of which every such file has near its beginning or end.
        others: What other files with such a mark begin with.
    """

    command: str
    endings: tuple[str, ...]
    marks: tuple[bytes, ...]
    others: tuple[bytes, ...] = ()


_FIGURES = (".png", ".svg", ".pdf")
_RESULTS = b'{\n "schema": 1'
ATTACK_RECORD = Product("jeat attack", (".json",), (b'"per_attack": {',), (_RESULTS,))
RUN_RESULTS = Product("jeat", (".json",), (_RESULTS,))
ATTACK_IMAGES = Product("jeat attack --save", (".safetensors",), (rb"\"per_attack\": {",))
ATTACK_PLOT = Product("jeat attack --plot", _FIGURES, (b"Accuracy under attack",))
SAMPLE_PICTURE = Product("jeat sample", (".png",), (b'tEXtjeat\0{"sampler": ',))
SAMPLE_TRACE = Product("jeat sample --trace", (".png", ".gif", ".webp"), (b'"trace": [',))
SAMPLE_ARCHIVE = Product("jeat sample", (".npz",), (b"jeat.npy",))
LANDSCAPE_PICTURE = Product("jeat landscape", _FIGURES, (b'{"kind": ',))
LANDSCAPE_NUMBERS = Product("jeat landscape", (".npz",), (b"summary.npy",))
NEIGHBOURS = Product("jeat score --neighbours", (".png",), (b"the image, then its ",))
CORRUPTED = Product("jeat score --corruptions", _FIGURES, (b"Corruptions of ",))
RELIABILITY = Product("jeat score --calibration", _FIGURES, (b"Reliability of ", b"(ECE "))


def report_of(verb: str) -> Product:
    """Return the HTML that a command writes, marked in its head."""
    mark = f'<meta name="generator" content="jeat-cli, jeat {verb}">'
    return Product(f"jeat {verb}", (".html",), (mark.encode(),))


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
    if explicit is not None:
        return expand(explicit)
    if "JEAT_DATA_DIR" in os.environ:
        return _place("JEAT_DATA_DIR", "cache")
    return cache_dir() / "data"


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


def check_output(path: Path, product: Product, option: str = "-o") -> None:
    """Refuse an output that cannot or must not be written, before the work for it begins.

    Only empty files and those that the same command wrote are written over.
    """
    if path.suffix.lower() not in product.endings:
        endings = " or ".join(f"`{ending}`" for ending in product.endings)
        raise UsageProblem(
            f"`{option}` writes a {endings} file, not `{path}`",
            f"name a file that ends in {endings}",
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise UsageProblem(f"`{option} {shown}` is not UTF-8", "choose a name in UTF-8") from None
    check_writable(path, option)
    elsewhere = f"name another place with `{option}`"
    try:
        if path.is_symlink():  # which would be replaced, not followed
            raise _unwritable(path, "it is a link", f"name the file itself, or {elsewhere}")
        mode, size = path.stat().st_mode, path.stat().st_size
        if not stat.S_ISREG(mode):
            raise _unwritable(path, "it is not a regular file", elsewhere)
        ours = size == 0 or _is_marked(path, product)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise _unwritable(path, problem.strerror or str(problem), elsewhere) from problem
    if not ours:
        raise JeatError(
            f"`{path}` exists and was not written by `{product.command}`",
            f"name another file with `{option}`, or remove that one first",
        )


def _is_marked(path: Path, product: Product) -> bool:
    with path.open("rb") as handle:
        content = handle.read(_SEARCHED)
        handle.seek(max(len(content), path.stat().st_size - _SEARCHED))
        content += handle.read()
    return not content.startswith(product.others) and any(mark in content for mark in product.marks)


def write_atomic(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a new file beside `path`, then rename it over `path`.

    Its unguessable name keeps two processes from meeting in it, and links out of its way.
    """
    check_writable(path)
    with replacing(path) as temporary:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(temporary, flags, 0o666)
        usual = os.fstat(descriptor).st_mode
        os.close(descriptor)
        write(temporary)
        # safetensors makes files that their owner alone can read, whatever the umask lets others.
        if temporary.stat().st_mode != usual:
            temporary.chmod(usual)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
    return path


@contextmanager
def replacing(path: Path, elsewhere: str = "name another place") -> Iterator[Path]:
    """Give a path beside `path` to fill with a file or a directory, then rename it to `path`.

    A reader sees the old file or the new one, even where the disk is full. What killed processes
    left is removed; a directory that another process has put at `path` meanwhile is kept.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent.absolute())
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not path.is_dir():
                raise
    except Exception as problem:
        if reason := _disk_trouble(problem):
            raise _unwritable(path, reason, elsewhere) from problem
        raise
    finally:
        with suppress(OSError):
            _remove(temporary)


def _remove(path: str | Path) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


def temporary_beside(path: Path) -> Path:
    """Return an unguessable path beside `path`, to be filled and renamed."""
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
    """Remove the temporary files of killed processes from a directory, once a process."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if (match := TEMPORARY.fullmatch(entry.name)) and _is_stale(entry, match):
                _remove(entry.path)


def _is_stale(entry: os.DirEntry[str], match: re.Match[str]) -> bool:
    if match["machine"] != _machine() or sys.platform == "win32":
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS
    try:
        with suppress(PermissionError):  # alive, and another user's
            os.kill(int(match["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    return False


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
        raise _unwritable(path, problem.strerror or str(problem)) from problem


def check_writable(path: Path, option: str = "-o") -> None:
    """Refuse a path that cannot be written, before the work for it begins."""
    existing = next((parent for parent in path.parents if os.path.exists(parent)), Path("."))
    elsewhere = f"name another place with `{option}`"
    if os.path.isdir(path):
        raise _unwritable(path, "it is a directory", elsewhere)
    if not os.path.isdir(existing):
        raise _unwritable(path, f"`{existing}` is a file", elsewhere)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(path, f"no permission in `{existing}`", elsewhere)


def _unwritable(path: Path, reason: str, elsewhere: str = "name another place") -> JeatError:
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
