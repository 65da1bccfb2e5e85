"""Several models and radii: each prepared once, all before the first is attacked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..checkpoints.settings import Foreign
from ..core.threat import fraction
from ..data.images import Images
from ..errors import JeatError
from ..runtime.distributed import current
from ..runtime.files import write_atomic
from ..runtime.progress import SILENT, Reporter
from .evaluate import Evaluation, load_models, prepare, run_evaluation
from .result import Robustness
from .settings import AttackSettings
from .state import StateFiles


@dataclass(frozen=True)
class Subject:
    """A model to attack, and where its results go."""

    path: Path  # the model's file
    record: Path | None = None  # the JSON file for the last result, or None for no file
    # The directory that keeps the result of each threat model and each choice of attacks, images
    # and settings, or None.
    archive: Path | None = None
    # The directory that keeps the state meanwhile, or None for no resuming.
    progress: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """The results of several evaluations."""

    # One for each model and radius, the radii of a model beside each other.
    results: list[Robustness]
    unwritten: JeatError | None  # what kept a record from being written, or None


def attack_each(
    subjects: Sequence[Subject],
    eps: Sequence[float | None] = (None,),
    settings: AttackSettings | None = None,
    *,
    foreign: Foreign | None = None,
    reporter: Reporter = SILENT,
) -> Comparison:
    """Attack every model at every radius, None being the one that it was trained for.

    A record holds the result of one radius as it is, and several as the list `results`.
    """
    settings = settings or AttackSettings()
    paths = [subject.path for subject in subjects]
    models, source = load_models(paths, settings, foreign, reporter)
    test_sets: dict[str, Images] = {}
    evaluations: list[tuple[Subject, Evaluation]] = []
    for subject, model in zip(subjects, models, strict=True):
        known = test_sets.get(model.meta.dataset)
        first = prepare(model, source, settings, reporter, known)
        test_sets[model.meta.dataset] = first.test_set
        evaluations += [(subject, first.at(radius)) for radius in eps]
    if len(test_sets) > 1:
        reporter.warn(
            f"the runs are on different data sets ({', '.join(test_sets)}): their accuracies are "
            "not comparable"
        )
    results, state_files, unwritten = [], [], None
    for number, (subject, evaluation) in enumerate(evaluations):
        if len(evaluations) > 1:
            reporter.say(f"{evaluation.model.name}, eps {fraction(evaluation.options.threat.eps)}")
        files = StateFiles(subject.progress, evaluation.key) if subject.progress else None
        state_files.append(files)
        results.append(run_evaluation(evaluation, files, reporter))
        if not current().is_main:
            continue
        if subject.archive is not None:
            unwritten = unwritten or _write(results[-1:], subject.archive / _named(results[-1]))
        if subject.record is not None and (number + 1) % len(eps) == 0:
            unwritten = unwritten or _write(results[-len(eps) :], subject.record)
    for files in state_files if current().is_main and unwritten is None else ():
        if files is not None:
            files.remove()
    return Comparison(results, unwritten)


def _named(result: Robustness) -> str:
    """Name the file of a result, which the same command writes again."""
    radius = fraction(result.eps).replace("/", "of")
    return f"{'+'.join(result.attacks)}-{result.norm}-{radius}-{result.key}.json"


def _write(results: Sequence[Robustness], path: Path) -> JeatError | None:
    """Write a record; where that fails, return why: the results are still to be shown."""
    records = [asdict(result) for result in results]
    text = json.dumps(records[0] if len(records) == 1 else {"results": records}, indent=1)
    try:
        write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    except JeatError as problem:
        return problem
    return None
