"""The latest results of each command on a run, kept in its directory as `results.json`."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from ..runtime import locks
from ..runtime.files import write_atomic
from ..runtime.outputs import RUN_RESULTS, check_output
from ..runtime.plain import parsed
from .header import read_header
from .runs import BEST_FILE, MODEL_FILE

RESULTS_FILE = "results.json"
# The latest results that are kept of each command.
_KEPT = 50
# What only this machine, or one image, is about: `attack.json` and the archives have it.
_LEFT_OUT = ("schema", "command", "path", "samples", "labels")

Results = dict[str, list[dict[str, Any]]]


def is_of_run(model: Path) -> bool:
    """Tell whether a model file is that of a run, whose directory takes results."""
    return model.name in (MODEL_FILE, BEST_FILE) and (model.parent / MODEL_FILE).is_file()


def read_results(folder: Path) -> Results:
    """Return the results of a run by command, the latest last; of a damaged file none.

    Each is what the command prints with `--json`, and `command`, `date` (UTC, ISO 8601), and the
    `model` file and its `epoch`, of which it is the result.
    """
    with suppress(OSError):
        return {
            verb: [item for item in found if isinstance(item, dict)]
            for verb, found in parsed((folder / RESULTS_FILE).read_bytes()).items()
            if isinstance(found, list)
        }
    return {}


def add_results(model: Path, verb: str, results: Sequence[Mapping[str, Any]], command: str) -> None:
    """Add results of a command, as it is typed, to its run; they replace those of the same command.

    `is_of_run` holds for the model's file. The results are what the verb, `attack`, prints with
    `--json` for this model, one object a threat model. One without an `epoch` is of the weights as
    they are now; a run in training may have replaced those that were measured.
    """
    folder = model.parent
    about = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model.name,
        "epoch": read_header(model).get("epoch"),
    }
    check_output(folder / RESULTS_FILE, RUN_RESULTS)  # it may be the user's own
    with _locked(folder):
        known = read_results(folder)
        others = [item for item in known.get(verb, []) if item.get("command") != command]
        known[verb] = [*others, *(about | _kept(result, folder) for result in results)][-_KEPT:]
        text = json.dumps({"schema": 1, **known}, indent=1, allow_nan=False) + "\n"
        write_atomic(folder / RESULTS_FILE, lambda beside: beside.write_text(text, "utf-8"))


def _kept(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what is kept of a result: of its outputs those in the run, by their path there."""
    outputs = {
        kind: Path(os.path.relpath(path, folder)).as_posix()
        for kind, path in result.get("outputs", {}).items()
        if Path(path).absolute().is_relative_to(folder.absolute())
    }
    kept = {key: _file_names(value) for key, value in result.items() if key not in _LEFT_OUT}
    return kept | {"outputs": outputs}


def _file_names(value: object) -> object:
    """Return a part of a result with the names of files, not where they lay on this machine."""
    if isinstance(value, Mapping):
        return {
            key: PurePath(part).name
            if key == "path" and isinstance(part, str)
            else _file_names(part)
            for key, part in value.items()
        }
    return [_file_names(part) for part in value] if isinstance(value, list | tuple) else value


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep two commands on one run from losing each other's results."""
    with ExitStack() as held:
        # Windows opens no directory, and some network file systems have no such locks.
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            held.callback(os.close, descriptor)
            locks.take(descriptor, wait=True)
        yield
