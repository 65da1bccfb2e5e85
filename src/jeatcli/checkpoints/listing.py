"""What there is to say of each run in a directory, without torch."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from statistics import mean, stdev
from typing import Any

from ..errors import JeatError
from ..runtime.files import expand, runs_dir
from .header import Meta, read_header
from .results import read_results
from .runs import CONFIG_FILE, LOG_FILE, MODEL_FILE, read_log, size_of

# What makes a robust accuracy another than that of the network itself under untargeted attack, on
# images of all classes.
_OTHERWISE = ("target", "transfer_from", "purification", "certificate", "only", "indices")


@dataclass(frozen=True)
class RunSummary:
    """A run as a row of a table; what is not known is None.

    `attack` is what `robust` was measured under: `attacks`, `norm`, `eps`, `n`, and whether that
    was in `training`, which is a quick look. The distance is that of the `jeat score` with most
    images, if they were enough, neither selected nor begun at training images, and beside the
    run's own data set, and the run did not judge itself.
    """

    run: str
    folder: Path
    path: Path | None  # of its model
    method: str | None
    dataset: str | None
    arch: str | None
    seed: int | None
    epoch: int  # epochs that are done
    epochs: int | None  # that there will be
    finished: bool
    clean: float | None  # accuracy of the last weights
    robust: float | None
    attack: dict[str, Any] | None
    frechet_distance: float | None
    features: str | None  # whose features those were
    bytes: int  # of all its files
    date: str  # when its model, or else its configuration, was written: UTC, ISO 8601
    settings: dict[str, Any]  # its configuration, the method's options among the others
    problem: str | None = None  # why its model cannot be read


@dataclass(frozen=True)
class SeedSummary:
    """The accuracies of runs that differ in their seed alone, under one attack."""

    runs: tuple[str, ...]
    attack: dict[str, Any]  # as that of each, without the command
    clean: float  # mean
    clean_sd: float  # standard deviation (n - 1)
    robust: float
    robust_sd: float


def over_seeds(runs: Sequence[RunSummary]) -> list[SeedSummary]:
    """Summarise the finished runs that differ in their seed alone, attacked by one command."""
    groups: dict[str, list[RunSummary]] = {}
    names = {run.run for run in runs}
    for run in sorted(runs, key=lambda run: run.run):
        if run.finished and run.settings and run.attack and None not in (run.clean, run.robust):
            same = {key: value for key, value in run.settings.items() if key != "seed"}
            command = _unnamed(str(run.attack.get("command", "")), names)
            key = json.dumps([same, run.attack | {"command": command}], sort_keys=True)
            groups.setdefault(key, []).append(run)
    return [
        SeedSummary(
            tuple(run.run for run in group),
            {key: value for key, value in (group[0].attack or {}).items() if key != "command"},
            *(
                figure([getattr(run, kind) for run in group])
                for kind in ("clean", "robust")
                for figure in (mean, stdev)
            ),
        )
        for group in groups.values()
        if len({run.settings.get("seed") for run in group}) == len(group) > 1
    ]


def _unnamed(command: str, runs: set[str]) -> str:
    """Return a command without the runs that it names, alone or beside one another.

    As whole words: `jeat attack` has the names of the runs `jeat` and `at` in it.
    """
    words = command.split()
    return " ".join(
        word
        for before, word in zip(["", *words], words, strict=False)
        # The value of an option is none, though a run may be called `5`.
        if before in ("", "jeat") or before.startswith("-") or PurePath(word).name not in runs
    )


def list_runs(pattern: str | None = None) -> list[RunSummary]:
    """Return the runs whose name fits a pattern, the latest last.

    The pattern is `lr*` as a shell reads it, or a part of the name. With a slash it is a path: that
    of a directory of runs, or of runs (`sweep/lr*`).
    """
    folder, name = runs_dir(), pattern or "*"
    if pattern and "/" in pattern:
        folder = expand(pattern)
        folder, name = (folder, "*") if folder.is_dir() else (folder.parent, folder.name)
    if not any(mark in name for mark in "*?["):
        name = f"*{name}*"
    places = folder.iterdir() if folder.is_dir() else ()
    found = []
    for path in places:
        if fnmatchcase(path.name, name) and _is_run(path):
            with suppress(FileNotFoundError):  # it is moved or removed meanwhile
                found.append(_summary(path))
    return sorted(found, key=lambda run: run.date)


def _is_run(path: Path) -> bool:
    return "~" not in path.name and any(
        (path / name).is_file() for name in (MODEL_FILE, CONFIG_FILE)
    )


def _summary(path: Path) -> RunSummary:
    header, problem = dict[str, Any](), None
    model, config = path / MODEL_FILE, path / CONFIG_FILE
    if model.is_file():
        try:
            header = read_header(model)
        except JeatError as wrong:
            problem = wrong.message
    settings = _settings(config)
    about = {**settings, **header}
    log = [line for _, line in read_log(path / LOG_FILE) if "epoch" in line]
    epoch = header.get("epoch", 0)
    measured = accuracy(path, header) or _in_training(log)
    score = _score(path, header)
    written = (model if model.is_file() else config).stat().st_mtime
    return RunSummary(
        run=path.name,
        folder=path,
        path=model if model.is_file() else None,
        **{key: about.get(key) for key in ("method", "dataset", "arch", "seed", "epochs")},
        # The model is saved less often than the log is written.
        epoch=max([epoch, *(line["epoch"] for line in log[-1:] if isinstance(line["epoch"], int))]),
        finished=header.get("finished") is True,
        clean=measured.get("clean"),
        robust=measured.get("robust"),
        attack=measured.get("attack"),
        frechet_distance=score.get("fid"),
        features=_features(score),
        bytes=size_of(path),
        date=datetime.fromtimestamp(int(written), UTC).isoformat(),
        settings=settings,
        problem=problem,
    )


def _settings(config: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        table = tomllib.loads(config.read_text(encoding="utf-8-sig"))
        options = table.pop("options", {})
        return {**(options if isinstance(options, dict) else {}), **table}
    return {}


def accuracy(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the accuracies by the strongest attack on the last weights.

    That is the one within the run's own threat model, or the data set's customary one where it
    was trained for none, then AutoAttack, then that on most images, then the latest.
    """
    own = _own_threat(header)

    def strength(result: Mapping[str, Any]) -> tuple[Any, ...]:
        threat = (result.get("norm"), result.get("eps")) == own
        return threat, "autoattack" in result.get("attacks", ()), result.get("n", 0)

    suited = [
        result
        for result in read_results(path).get("attack", [])
        if isinstance(result.get("robust"), float)
        and _is_of(result, header.get("epoch"))
        and all(result.get(key) is None for key in _OTHERWISE)
        and result.get("dataset") == header.get("dataset")
    ]
    if not suited:
        return {}
    best = max(reversed(suited), key=strength)
    about = {key: best.get(key) for key in ("attacks", "norm", "eps", "n", "command")}
    accuracy = {key: best.get(key) for key in ("clean", "robust")}
    return accuracy | {"attack": about | {"training": False}}


def _own_threat(header: Mapping[str, Any]) -> tuple[str, float] | None:
    if not header:
        return None
    threat = Meta.of(header).threat
    return threat.norm, threat.eps


def _in_training(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    for line in reversed(log):
        for name in ("test", "val"):
            if f"{name}_robust" in line:
                accuracy = {key: line.get(f"{name}_{key}") for key in ("clean", "robust")}
                return accuracy | {"attack": {"attacks": ["pgd"], "training": True}}
    return {}


def _score(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the score of most images, the latest of those, whose distance is not in doubt.

    It is that of all images that were drawn, none from a training image, to the run's data set.
    """
    suited = [
        result
        for result in read_results(path).get("score", [])
        if "fid" in result
        and _is_of(result, header.get("epoch", 0))
        and "fid" not in result.get("notes", {})
        and _features(result) != result.get("run")
        and _is_usual(result.get("protocol", {}), header.get("dataset"))
    ]
    return max(
        reversed(suited), key=lambda result: result.get("protocol", {}).get("n", 0), default={}
    )


def _is_usual(protocol: Mapping[str, Any], dataset: str | None) -> bool:
    """Tell whether all that was drawn is compared with `dataset`, and did not begin there."""
    sampling = protocol.get("sampling") or {}
    reference = protocol.get("reference", {}).get("dataset", dataset)
    selected = protocol.get("selection", "none") != "none"
    return not selected and sampling.get("init") != "data" and reference == dataset


def _is_of(result: Mapping[str, Any], epoch: int | None) -> bool:
    """Tell whether a result is of the last weights as they are now."""
    return result.get("model") == MODEL_FILE and result.get("epoch") == epoch


def _features(score: Mapping[str, Any]) -> str | None:
    features = score.get("protocol", {}).get("features", {})
    name = features.get("run") or features.get("kind")
    return None if name is None else str(name)
