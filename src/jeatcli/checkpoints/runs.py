"""Finding runs and checkpoints, and reading their headers, without torch."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import JeatError, NoSuchRun, UsageProblem, nearest, unknown
from ..runtime.files import expand, runs_dir
from ..runtime.plain import parsed
from ..runtime.progress import SILENT, Reporter
from .formats import of_directory
from .header import CONFIG_FILE as CONFIG_FILE
from .header import FOLDER_FILES as FOLDER_FILES
from .header import FOREIGN_ENDINGS, INDEX_ENDING, WEIGHT_ENDINGS, NotOurs, read_header
from .header import MODEL_FILE as MODEL_FILE
from .hub import download, is_downloaded, is_hub

BEST_FILE = "best.safetensors"
STATE_FILE = "state.safetensors"
STATE_BEFORE_FILE = "state-before.safetensors"
LOG_FILE = "metrics.jsonl"
# The package's own network, a RUN name as any other.
PRETRAINED = Path(__file__).with_name("assets") / "pretrained.safetensors"


def names() -> list[str]:
    """Return the names of the runs in the runs directory, the latest last."""
    return [path.name for path in _runs(runs_dir())]


def _runs(folder: Path) -> list[Path]:
    """Return the run directories in `folder` that hold a model, by the time of its writing."""
    dated = []
    for path in folder.glob(f"*/{MODEL_FILE}"):
        with suppress(FileNotFoundError):  # a run that is moved or removed meanwhile
            dated.append((path.stat().st_mtime, path.parent))
    return [path for _, path in sorted(dated) if "~" not in path.name]


def place(name: str | Path) -> Path:
    """Return where a run of that name lies: a bare name is in the runs directory.

    A slash or the ending of a checkpoint makes it a path, and so do `.`, `..` and `~`; any other
    dot is part of the name, as in `lr0.01`. A path is made absolute: without its `./` it would read
    as a name.
    """
    if not isinstance(name, str | Path):
        raise UsageProblem(
            f"a run is a name, a path or a loaded model, not of the type {type(name).__name__}",
            "make a model of a network of your own: `jeatcli.wrap(net, ...)`",
        )
    if not str(name).strip():
        raise UsageProblem("the name of a run is empty", "is a variable of the shell not set?")
    bare = isinstance(name, str) and is_name(name)
    return runs_dir() / name if bare else expand(name).absolute()


def is_name(text: str) -> bool:
    """Tell whether a text is the name of a run, and not a path."""
    checkpoint = text.lower().endswith((".safetensors", *FOREIGN_ENDINGS, INDEX_ENDING))
    return not (checkpoint or "/" in text or "\\" in text or text[:1] == "~" or text in (".", ".."))


def resolve(
    run: str | Path | None = None, other_than: Path | None = None, reporter: Reporter = SILENT
) -> Path:
    """Return the model file of a run or a path, or (None) of the latest finished run.

    `RUN/best` is that of its best epoch, as tables call it; `hf-hub:OWNER/NAME` is downloaded.
    Where there is no run at all, of which the reporter is told, and where a run is called
    `pretrained` that is not there, it is the package's own network.
    `other_than` is a model file that is never taken for the latest.

    Raises:
        JeatError: If there is none.
    """
    if run is None:
        return _latest(other_than, reporter)
    if is_hub(run):
        return download(str(run), reporter)
    path = place(run)
    if run == PRETRAINED.stem and not (path / MODEL_FILE).is_file():
        return PRETRAINED
    if path.is_dir():
        for name in (MODEL_FILE, *FOLDER_FILES):
            if (path / name).is_file():
                return path / name
        raise _without_model(path)
    if path.is_file() and path.suffix != ".py":
        return path
    parent, _, name = str(run).rpartition("/")
    if parent and name == Path(BEST_FILE).stem and (best := place(parent) / BEST_FILE).is_file():
        return best
    raise _missing(path)


def is_foreign(path: Path) -> bool:
    """Tell whether a checkpoint is not of `jeat train`; refuse a file that is no checkpoint."""
    try:
        read_header(path)
    except NotOurs:
        return True
    return False


def results_dir(path: Path) -> Path:
    """Return where the results for a model file go: beside it, if it is ours.

    Those of third-party checkpoints, of models of the hub and of the package's network go into a
    directory of that name in the working directory.
    """
    elsewhere = path == PRETRAINED or is_downloaded(path) or is_foreign(path)
    own = path.name.partition(".")[0] if path.name in FOLDER_FILES else path.stem
    own = path.parent.name if is_downloaded(path) else own
    return Path.cwd() / own if elsewhere else path.parent


def _without_model(path: Path) -> JeatError:
    """Say how a directory without a model can become a run, or that it is none."""
    if (path / CONFIG_FILE).is_file():
        what = "training has not saved a model there yet"
        again = shlex.join(["jeat", "train", "-c", str(path / CONFIG_FILE), "-o", str(path)])
        fix = f"train it further with `{again}`"
    elif other := of_directory(path):
        what, fix = f"it is {other[0]}", other[1]
    else:
        what = "it is not a run" if any(path.iterdir()) else "empty"
        fix = f"name the directory of a run or a `{MODEL_FILE}` that `jeat train` wrote"
        weights = [each for each in sorted(path.iterdir()) if _may_be_weights(each)]
        if weights:
            fix = f"name the file with the weights, such as `{weights[0]}`"
    return JeatError(f"`{path}` holds no `{MODEL_FILE}` ({what})", fix)


def _may_be_weights(path: Path) -> bool:
    state = path.name in (STATE_FILE, STATE_BEFORE_FILE)
    return path.suffix.lower() in (".safetensors", ".bin", *WEIGHT_ENDINGS) and not state


def _missing(path: Path) -> NoSuchRun:
    """Say which runs there are where this one is not."""
    hint: str | None
    if re.search(r"/[a-z][a-z0-9]+:/", path.as_posix()):
        hint = "download the file, or name a model of the hub by `hf-hub:OWNER/NAME`"
    elif code := re.search(r"\.py(:\w+)?$", path.name):
        arch = path.name if code[1] else f"{path.name}:FUNCTION"
        hint = f"name the file with the weights, and the code by `--arch {arch}`"
    elif path.parent == runs_dir() and Path(path.name).exists():
        hint = f"did you mean the path `./{path.name}`?"
    elif siblings := _runs(path.parent):
        hint = unknown("run", path.name, [each.name for each in siblings]).hint
    elif near := nearest(path.name, names()):
        hint = f"check the path, or did you mean the run `{near}`?"
    else:
        hint = "make one with `jeat train`, or check the path"
    if path.parent == runs_dir():
        return NoSuchRun(f"there is no run `{path.name}` in `{runs_dir()}`", hint)
    return NoSuchRun(f"there is no run or checkpoint at `{path}`", hint)


def _latest(other_than: Path | None, reporter: Reporter) -> Path:
    found = _runs(runs_dir())
    for path in reversed(found):
        model = path / MODEL_FILE
        if model != other_than and read_header(model).get("finished"):
            reporter.say(f"the latest finished run: `{path.name}`")
            return model
    if not found and other_than != PRETRAINED:
        header = read_header(PRETRAINED)
        kind = f"{header['method']} on {header['dataset']}, {header['arch']}"
        reporter.say(f"there is no run: using the package's network `{PRETRAINED.stem}` ({kind})")
        return PRETRAINED
    raise JeatError(
        f"there is no finished run in `{runs_dir()}`",
        "train one with `jeat train --dataset digits`, or name a RUN"
        + (f", such as `{PRETRAINED.stem}`" if other_than != PRETRAINED else ""),
    )


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a directory; those that vanish meanwhile do not count."""
    with suppress(OSError):
        return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    return 0


def read_log(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Return the lines of a log that can be read, each with what it says.

    Others are damaged, or cut short by a kill or a full disk.
    """
    lines = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        entry = parsed(line)
        if entry and isinstance(entry.get("step", 0), int | float):
            lines.append((line, entry))
    return lines


def distinct_names(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Return names of models; those of different files that are equal are led by directories.

    One file has one name, however often it comes.
    """
    places = [path.absolute() for path in paths]
    found = dict(zip(places, names, strict=True))
    for name in set(names):
        alike = [place for place in found if found[place] == name]
        if len(alike) < 2:
            continue
        # Two files of one directory may be `net.pt` and `net.pth`.
        together = len({place.parent for place in alike}) < len(alike)
        ends = {place: name + place.suffix * together for place in alike}
        for depth in range(max(len(place.parts) for place in alike)):
            led = {place: "/".join([*_above(place, name, depth), ends[place]]) for place in alike}
            if len(set(led.values())) == len(alike):
                break
        found |= led
    return [found[place] for place in places]


def _above(place: Path, name: str, depth: int) -> list[str]:
    """Return so many directories above what has the name: a run, a file of it, or a file."""
    above = list(place.parent.parts[1:])
    if above[-1:] == [name.partition("/")[0]]:
        above.pop()
    return above[-depth:] if depth else []


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Return the names without their middle where they are too long, unless that makes two alike.

    What tells runs apart, a seed or a radius, is mostly at the end.
    """
    head = (longest - 1) // 2
    tail = longest - 1 - head
    cut = [name if len(name) <= longest else f"{name[:head]}…{name[-tail:]}" for name in names]
    return cut if len(set(cut)) == len(set(names)) else list(names)
