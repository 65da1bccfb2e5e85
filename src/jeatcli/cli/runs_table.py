"""`jeat --runs`: a table of the runs, or one JSON object."""

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from ..checkpoints.listing import RunSummary, SeedSummary, list_runs, over_seeds
from ..checkpoints.runs import shortened
from ..core.threat import fraction
from ..errors import JeatError
from ..runtime.files import runs_dir
from ..runtime.plain import plain
from . import output

_COLUMNS = (
    *("run", "method", "data", "network", "epochs"),
    *("clean", "robust", "under", "FD", "size", "date"),
)
# The columns that a narrow terminal has no room for, the least important first.
_DISPENSABLE = ("size", "network", "data", "date", "FD", "method", "under", "epochs")
_LONGEST = 32


def show(pattern: str | None, key: str, as_json: bool) -> None:
    """Print the runs that fit a pattern, in the order of a field; if none does, that is an error.

    Those without the figure come first, as the latest and the best are at the end. Without a
    pattern, no runs at all are an empty list in JSON.
    """
    runs = list_runs(pattern)
    runs.sort(key=lambda run: (getattr(run, key) is not None, getattr(run, key)))
    if not runs and (pattern or not as_json):
        what = f"no run fits `{pattern}`" if pattern else "there are no runs"
        where = "" if pattern and "/" in pattern else f" in `{runs_dir()}`"
        make = "make one with `jeat train --dataset digits`"
        raise JeatError(f"{what}{where}", "`jeat --runs` lists all" if pattern else make)
    results = {"results": plain(runs), "seeds": plain(over_seeds(runs))}
    document = output.document("runs", results)
    output.emit(document, as_json, lambda: table(runs, output.room()))


def table(runs: Sequence[RunSummary], width: int | None = None) -> str:
    """Lay the runs out as a table, without columns for which `width` has no room."""
    names = shortened([run.run for run in runs], _LONGEST) if width else [run.run for run in runs]
    rows = [
        dict(zip(_COLUMNS, (name, *_row(run)), strict=True))
        for run, name in zip(runs, names, strict=True)
    ]
    columns = list(_COLUMNS)
    empty = [name for name in _DISPENSABLE if all(row[name] == "-" for row in rows)]
    for name in ("", *empty, *_DISPENSABLE):
        columns = [column for column in columns if column != name]
        text = output.table([columns, *([row[column] for column in columns] for row in rows)])
        if width is None or max(map(output.columns, text.splitlines())) <= width:
            break
    unfinished = [run for run in runs if not run.finished]
    notes = ["* not finished: the command that began it resumes it"] if unfinished else []
    notes += [f"{run.run}: {run.problem}" for run in runs if run.problem]
    return "\n".join([text, *map(_of_seeds, over_seeds(runs)), *notes])


def _of_seeds(group: SeedSummary) -> str:
    """Write the means of runs that differ in their seed: `at-seed*, 3 seeds: clean ...`."""
    alike = takewhile(lambda characters: len({*characters}) == 1, zip(*group.runs, strict=False))
    prefix = "".join(first for first, *_ in alike)
    names = f"{prefix}*" if prefix else ", ".join(group.runs)
    clean, robust = (
        f"{100 * value:.2f} ± {100 * sd:.2f} %"
        for value, sd in ((group.clean, group.clean_sd), (group.robust, group.robust_sd))
    )
    return f"{names}, {len(group.runs)} seeds: {clean} clean, {robust} under {_under(group.attack)}"


def _row(run: RunSummary) -> tuple[Any, ...]:
    epochs = f"{run.epoch}/{run.epochs or '?'}{'' if run.finished else ' *'}"
    accuracies = (
        "-" if share is None else output.percent(share) for share in (run.clean, run.robust)
    )
    distance = (
        "-" if run.frechet_distance is None else f"{run.frechet_distance:.1f} ({run.features})"
    )
    about = (run.method or "?", run.dataset or "?", run.arch or "?")
    date = f"{datetime.fromisoformat(run.date).astimezone():%Y-%m-%d %H:%M}"
    return (*about, epochs, *accuracies, _under(run.attack), distance, output.size(run.bytes), date)


def _under(attack: dict[str, Any] | None) -> str:
    """Write what the accuracy was measured under: `autoattack linf 8/255 n=1,000`."""
    if attack is None:
        return "-"
    names = "+".join(attack["attacks"])
    if attack["training"]:
        return f"{names}-10 in training"
    return f"{names} {attack['norm']} {fraction(attack['eps'])} n={attack['n']:,}"
