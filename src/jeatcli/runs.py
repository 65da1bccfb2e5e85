"""Finding runs and checkpoints, and reading their headers, without torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from .errors import JeatError, unknown
from .paths import runs_dir

SCHEMA = 1
MODEL_FILE = "model.safetensors"
STATE_FILE = "state.safetensors"
_MOST_HEADER = 100_000_000


def names() -> list[str]:
    """Return the names of the runs in the runs directory, the latest last."""
    return [path.name for path in _runs()]


def _runs() -> list[Path]:
    """Return the run directories that hold a model, by the time of its writing."""
    models = [path for path in runs_dir().glob(f"*/{MODEL_FILE}") if "~" not in path.parent.name]
    return [path.parent for path in sorted(models, key=lambda path: path.stat().st_mtime)]


def place(name: str | Path) -> Path:
    """Return where a run of that name lies: a bare name is in the runs directory.

    A slash or an extension makes it a path.
    """
    path = Path(name).expanduser()
    bare = isinstance(name, str) and "/" not in name and "\\" not in name and not path.suffix
    return runs_dir() / path if bare else path


def resolve(run: str | Path | None = None) -> Path:
    """Return the model file of a run, a path, or (None) of the latest finished run.

    Raises:
        JeatError: If there is none.
    """
    if run is None:
        return _latest() / MODEL_FILE
    path = place(run)
    if path.is_dir():
        if not (path / MODEL_FILE).is_file():
            what = "training has not saved a model there yet" if any(path.iterdir()) else "empty"
            raise JeatError(
                f"`{path}` holds no `{MODEL_FILE}` ({what})",
                "name a run that has finished an epoch, or train it further with `jeat train`",
            )
        return path / MODEL_FILE
    if path.is_file():
        return path
    if path.parent == runs_dir():
        missing = unknown("run", str(run), names() or ["(none yet: `jeat train` makes one)"])
        raise JeatError(f"there is no run `{run}` in `{runs_dir()}`", missing.hint)
    raise JeatError(f"there is no run or checkpoint at `{path}`", "check the path")


def _latest() -> Path:
    for path in reversed(_runs()):
        if read_header(path / MODEL_FILE).get("finished"):
            return path
    raise JeatError(
        f"there is no finished run in `{runs_dir()}`",
        "train one with `jeat train --dataset digits`, or name a RUN",
    )


def read_header(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself, after checking that the file is whole.

    Raises:
        JeatError: If it is damaged, of another kind, or written by a newer version.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            start = handle.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            raw = handle.read(length) if 0 < length <= min(size, _MOST_HEADER) else b""
    except OSError as problem:
        raise JeatError(f"cannot read `{path}`: {problem.strerror}") from problem
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        raise JeatError(
            f"`{path}` is a pickle, which may run code when it is read",
            "jeat reads `.safetensors` checkpoints that `jeat train` wrote",
        )
    if size < 8 or 0 < size - 8 < length <= _MOST_HEADER:
        raise _truncated(path, size)
    try:
        header = json.loads(raw)
        meta = header.pop("__metadata__", {}).get("jeat")
        ends = [entry["data_offsets"][1] for entry in header.values()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise _foreign(path) from None
    if 8 + length + max(ends, default=0) > size:
        raise _truncated(path, size)
    if meta is None:
        raise _foreign(path)
    return _checked(path, meta)


def _checked(path: Path, meta: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(meta)
        schema = int(found["schema"])
    except (ValueError, KeyError, TypeError):
        raise _foreign(path) from None
    if schema > SCHEMA:
        raise JeatError(
            f"`{path}` has schema {schema}, written by jeat {found.get('version', '?')}; "
            f"this version reads up to {SCHEMA}",
            "upgrade: `pip install -U jeat-cli`",
        )
    return found


def _truncated(path: Path, size: int) -> JeatError:
    return JeatError(
        f"`{path}` is cut short at {size:,} bytes",
        "copy it again, or train the run further with `jeat train`, which writes it anew",
    )


def _foreign(path: Path) -> JeatError:
    return JeatError(
        f"`{path}` is not a jeat checkpoint",
        "name a run directory or a `model.safetensors` that `jeat train` wrote",
    )
