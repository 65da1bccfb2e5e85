"""A run's directory: opened or refused, made, locked, and what it says of the run."""

import itertools
import os
import shlex
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints import runs
from ..checkpoints.checkpoint import read_tensors
from ..checkpoints.header import CutShort, Damaged, read_header
from ..data.facts import image_size, own_path
from ..errors import JeatError, UsageProblem
from ..runtime import locks
from ..runtime.files import TEMPORARY, expand, runs_dir, write_atomic, writing
from ..runtime.progress import SILENT, Reporter
from .identity import (
    UNMEASURED,
    check_settings,
    difference_text,
    differing,
    foreign_settings,
    of_model,
    unmeasured,
)
from .resolve import read_config, to_toml
from .settings import TrainConfig

_LOCK = ".lock"


def run_name(config: TrainConfig) -> str:
    """Return the name of a run that was given none."""
    dataset = config.dataset
    if own := own_path(dataset):
        size = image_size(dataset)
        dataset = expand(own).resolve().name + (f"-{size}" if size else "")
    return f"{dataset}-{config.method}-{config.arch}".replace(".", "_").replace(":", "-")


def new_place(name: str | Path | None, config: TrainConfig, force: bool) -> Path:
    """Return where to train a run, by default called `run_name`.

    Refuse a name or path by which it could not be found again, and to move aside by `force` more
    than the run.
    """
    folder = runs.place(run_name(config) if name is None else name)
    commands = {unicodedata.category(each) for each in folder.name} & {"Cc", "Cf", "Zl", "Zp"}
    unfit = commands or folder.name.startswith("-") or "~" in folder.name
    if unfit and not (folder / runs.CONFIG_FILE).is_file():  # one that is there goes on
        raise UsageProblem(
            f"`{folder.name}` cannot be the name of a run",
            "choose another with `-o`: without `-` at its beginning, `~` (which marks runs that "
            "were moved aside) and control characters",
        )
    home = Path(os.path.expanduser("~"))
    held = (Path.cwd(), home, runs_dir(), expand(own_path(config.dataset) or home))
    if force and any(place.resolve().is_relative_to(folder.resolve()) for place in held):
        raise UsageProblem(
            f"`--force` would move `{folder}` aside, with all that is in it",
            "name a directory of the run's own with `-o`",
        )
    return folder


def compare(folder: Path, config: TrainConfig) -> TrainConfig:
    """Compare `config` with the run that may be in `folder`; return the settings to go on with."""
    if not _anything_in(folder):
        return config
    if not (folder / runs.CONFIG_FILE).is_file():
        raise JeatError(
            f"`{folder}` exists but is not a run: it has no `config.toml`",
            "choose another place with `-o`, or move it aside and start there with `--force`",
        )
    theirs = read_config(folder / runs.CONFIG_FILE)
    if values := differing(config, theirs):
        raise _other_run(folder, values)
    return replace(config, precision=theirs.precision, kernel=theirs.kernel, compile=theirs.compile)


def compare_again(folder: Path, config: TrainConfig) -> None:
    """Refuse a run of other settings that another process has made since the first look."""
    compare(folder, replace(config, **UNMEASURED))


def _anything_in(folder: Path) -> bool:
    """Tell whether a directory holds more than a lock and temporary files."""
    return folder.is_dir() and any(
        not (path.name == _LOCK or TEMPORARY.fullmatch(path.name)) for path in folder.iterdir()
    )


def _other_run(folder: Path, values: Mapping[str, tuple[Any, Any]]) -> JeatError:
    """Say which settings differ, with both values, and what can be done."""
    name = folder.name if runs.place(folder.name) == folder else folder
    new = "start a new run with `-o NAME`"
    typed = shlex.quote(str(name))
    again = shlex.join(["jeat", "train", "-c", f"{folder}/config.toml", "-o", str(name)])
    if "epochs" in values or "max_steps" in values:
        new += f" (from the weights of this one with `--init-from {typed}`; its schedule is over)"
    different = difference_text({key: (theirs, ours) for key, (ours, theirs) in values.items()})
    return JeatError(
        f"`{name}` is a run with other settings: it has {different}",
        f"{new}, continue this one with `{again}`, or start it over with `--force`",
    )


def set_aside(folder: Path) -> None:
    """Move what is in the run's place to `NAME~1`, or the first number that is free."""
    if not _anything_in(folder):
        return
    places = (folder.with_name(f"{folder.name}~{number}") for number in itertools.count(1))
    with locked(folder):
        folder.rename(next(place for place in places if not place.exists()))


def create(folder: Path, config: TrainConfig) -> None:
    """Make the run's directory with its configuration, if it is not there or not all measured."""
    path = folder / runs.CONFIG_FILE
    if not path.is_file() or unmeasured(read_config(path)):
        write_atomic(path, lambda beside: beside.write_text(to_toml(config), encoding="utf-8"))


def epochs_done(folder: Path, config: TrainConfig) -> int | None:
    """Return the number of epochs of a run that has finished and is whole, None if it can go on.

    Refuse a model of another run, which someone has copied there, and a run whose state is gone.
    """
    model, header = folder / runs.MODEL_FILE, {}
    try:
        header = read_header(model) if model.is_file() else {}
        if other := foreign_settings(of_model(config), {**header, **header.get("options", {})}):
            raise JeatError(
                f"`{model}` is the model of another run: it has {other}",
                "move it away; the same command writes that of this run from its state",
            )
        if header.get("finished") is True:
            read_tensors(model, header)
            _check_last_state(folder, config)
            return int(header["epoch"])
    except CutShort:
        pass  # the state writes it anew
    except Damaged:
        if not (folder / runs.STATE_FILE).is_file():
            raise
    _check_resumable(folder)
    return None


def _check_last_state(folder: Path, config: TrainConfig) -> None:
    """Refuse settings that were changed since; a model knows only some of those it came by."""
    path = folder / runs.STATE_FILE
    try:
        header = read_header(path)
    except JeatError:  # a finished run can do without
        return
    check_settings(path, header, config)


def _check_resumable(folder: Path) -> None:
    """Refuse a run whose state is gone: to begin anew would write over the weights it has.

    The state is the first that a run saves, so without one there is neither a model nor a log.
    """
    kept = (runs.MODEL_FILE, runs.BEST_FILE, runs.LOG_FILE, runs.STATE_BEFORE_FILE)
    left = [name for name in kept if (folder / name).is_file()]
    state = folder / runs.STATE_FILE
    if state.is_file() or not left:
        return
    fix = f"copy `{runs.STATE_FILE}` back"
    if runs.STATE_BEFORE_FILE in left:
        move = shlex.join(["mv", str(folder / runs.STATE_BEFORE_FILE), str(state)])
        fix = f"go back to the save before by `{move}`"
    elif runs.MODEL_FILE in left:
        fix += f", start another run with `-o NAME` from its weights with `--init-from {folder}/`"
    raise JeatError(
        f"`{folder}` cannot be resumed: it has {', '.join(left)}, but no `{runs.STATE_FILE}`",
        f"{fix}, or start over with `--force`, which keeps the old run beside the new one",
    )


@contextmanager
def locked(folder: Path, reporter: Reporter = SILENT) -> Iterator[None]:
    """Lock the run against other processes; the system frees the lock of one that died.

    Some network and FUSE file systems have no locks: the reporter warns, and the run goes on.
    """
    with ExitStack() as held:
        with writing(folder / _LOCK):
            handle = held.enter_context((folder / _LOCK).open("a"))
        try:
            if not locks.take(handle):
                raise JeatError(
                    f"another process is training `{folder}`", "wait for it, or name another `-o`"
                )
        except OSError as problem:
            reporter.warn(
                f"`{folder}` cannot be locked ({problem.strerror}); start only one process there"
            )
        yield
