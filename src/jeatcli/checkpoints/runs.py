"""Finding runs and checkpoints, and reading their headers, without torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from ..errors import JeatError, nearest, unknown
from ..runtime.files import expand, runs_dir

SCHEMA = 1
MODEL_FILE = "model.safetensors"
BEST_FILE = "best.safetensors"
STATE_FILE = "state.safetensors"
STATE_BEFORE_FILE = "state-before.safetensors"
CONFIG_FILE = "config.toml"
LOG_FILE = "metrics.jsonl"
_MOST_HEADER = 100_000_000
# What PyTorch's checkpoints are called; their first bytes are those of a zip or of a pickle.
_PICKLES = (".pt", ".pth", ".th", ".ckpt")


class CutShort(JeatError):
    """A checkpoint is not whole; what there is of it is of no use."""


class NotOurs(JeatError):
    """A checkpoint that `jeat train` did not write."""


def names() -> list[str]:
    """Return the names of the runs in the runs directory, the latest last."""
    return [path.name for path in _runs(runs_dir())]


def _runs(folder: Path) -> list[Path]:
    """Return the run directories in `folder` that hold a model, by the time of its writing."""
    models = [path for path in folder.glob(f"*/{MODEL_FILE}") if "~" not in path.parent.name]
    return [path.parent for path in sorted(models, key=lambda path: path.stat().st_mtime)]


def place(name: str | Path) -> Path:
    """Return where a run of that name lies: a bare name is in the runs directory.

    A slash or the ending of a checkpoint makes it a path, and so do `.`, `..` and `~`; any other
    dot is part of the name, as in `lr0.01`. A path is made absolute: without its `./` it would read
    as a name.
    """
    path = expand(name)
    if isinstance(name, str) and is_name(name):
        return runs_dir() / name
    return path.absolute()


def is_name(text: str) -> bool:
    """Tell whether a text is the name of a run, and not a path."""
    checkpoint = text.lower().endswith((".safetensors", *_PICKLES))
    return not (checkpoint or "/" in text or "\\" in text or text[:1] == "~" or text in (".", ".."))


def resolve(run: str | Path | None = None, other_than: Path | None = None) -> Path:
    """Return the model file of a run, a path, or (None) of the latest finished run.

    Args:
        run: A run's name or a path.
        other_than: A model file that is not meant where no run is named.

    Raises:
        JeatError: If there is none.
    """
    if run is None:
        return _latest(other_than)
    path = place(run)
    if path.is_dir():
        if not (path / MODEL_FILE).is_file():
            raise _without_model(path)
        return path / MODEL_FILE
    if path.is_file():
        return path
    raise _missing(path)


def is_foreign(path: Path) -> bool:
    """Tell whether a file is a checkpoint that `jeat train` did not write.

    Raises:
        JeatError: If it cannot be read, or is no checkpoint at all.
    """
    try:
        read_header(path)
    except NotOurs:
        return True
    return False


def results_dir(path: Path) -> Path:
    """Return where the results for a model file go: beside it, if it is ours.

    Those for somebody else's go into a directory of its name, in the working directory.
    """
    return Path.cwd() / path.stem if is_foreign(path) else path.parent


def _without_model(path: Path) -> JeatError:
    """Say how a directory without a model can become a run, or that it is none."""
    if (path / CONFIG_FILE).is_file():
        what = "training has not saved a model there yet"
        fix = f"train it further with `jeat train -c {path / CONFIG_FILE} -o {path}`"
    else:
        what = "it is no run" if any(path.iterdir()) else "empty"
        fix = f"name the directory of a run or a `{MODEL_FILE}` that `jeat train` wrote"
    return JeatError(f"`{path}` holds no `{MODEL_FILE}` ({what})", fix)


def _missing(path: Path) -> JeatError:
    """Say which runs there are where this one is not."""
    hint: str | None
    if path.parent == runs_dir() and Path(path.name).exists():
        hint = f"did you mean the path `./{path.name}`?"
    elif siblings := _runs(path.parent):
        hint = unknown("run", path.name, [each.name for each in siblings]).hint
    elif near := nearest(path.name, names()):
        hint = f"check the path, or did you mean the run `{near}`?"
    else:
        hint = "make one with `jeat train`, or check the path"
    if path.parent == runs_dir():
        return JeatError(f"there is no run `{path.name}` in `{runs_dir()}`", hint)
    return JeatError(f"there is no run or checkpoint at `{path}`", hint)


def _latest(other_than: Path | None) -> Path:
    for path in reversed(_runs(runs_dir())):
        model = path / MODEL_FILE
        if model != other_than and read_header(model).get("finished"):
            return model
    raise JeatError(
        f"there is no finished run in `{runs_dir()}`",
        "train one with `jeat train --dataset digits`, or name a RUN",
    )


def read_header(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself, after checking that the file is whole.

    Raises:
        CutShort: If its end is missing.
        NotOurs: If it is somebody else's.
        JeatError: If it is of another kind, or written by a newer version.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            start = handle.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            raw = handle.read(length) if 0 < length <= min(size, _MOST_HEADER) else b""
    except OSError as problem:
        raise JeatError(
            f"cannot read `{path}`: {problem.strerror}", "check the path and its permissions"
        ) from problem
    # The first byte alone may be that of the length of a header of ours.
    pickled = start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and length > _MOST_HEADER)
    if pickled or path.suffix.lower() in _PICKLES:
        raise _foreign(path)
    if size < 8 or size - 8 < length <= _MOST_HEADER:
        raise _truncated(path, size)
    try:
        header = json.loads(raw)
        meta = header.pop("__metadata__", {}).get("jeat")
        ends = [entry["data_offsets"][1] for entry in header.values()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise _no_checkpoint(path) from None
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
        raise _no_checkpoint(path) from None
    if schema > SCHEMA:
        raise JeatError(
            f"`{path}` has schema {schema}, written by jeat {found.get('version', '?')}; "
            f"this version reads up to {SCHEMA}",
            "upgrade: `pip install -U jeat-cli`",
        )
    return found


def _truncated(path: Path, size: int) -> CutShort:
    return CutShort(
        f"`{path}` is cut short at {size:,} bytes",
        "copy it again, or train the run further with `jeat train`, which writes it anew",
    )


_NAME_OURS = "name a run directory or a `model.safetensors` that `jeat train` wrote"


def _foreign(path: Path) -> NotOurs:
    return NotOurs(f"`{path}` is somebody else's checkpoint, not one of jeat", _NAME_OURS)


def _no_checkpoint(path: Path) -> JeatError:
    return JeatError(f"`{path}` is not a jeat checkpoint", _NAME_OURS)
