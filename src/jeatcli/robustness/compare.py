"""Several models and radii: each prepared once, all before the first is attacked."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..checkpoints.runs import CONFIG_FILE
from ..checkpoints.settings import Foreign
from ..core.threat import fraction
from ..data.images import Images
from ..errors import JeatError, UsageProblem
from ..runtime.distributed import current
from ..runtime.files import write_atomic
from ..runtime.plain import plain
from ..runtime.progress import SILENT, Reporter
from .evaluate import run_evaluation
from .evaluation import Evaluation, load_models, prepare
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
    # When the run was begun, in nanoseconds, or None for a model without settings.
    begun: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "begun", self._begun())

    @property
    def moved(self) -> bool:
        """Whether the run has left the directory that keeps its results, perhaps to a new one."""
        there = self.path.exists() and self._begun() == self.begun
        return self.archive is not None and not there

    def _begun(self) -> int | None:
        with suppress(OSError):
            return self.path.with_name(CONFIG_FILE).stat().st_mtime_ns
        return None


@dataclass(frozen=True)
class Comparison:
    """The results of several evaluations."""

    # One for each model and threat, the threats of a model beside each other.
    results: list[Robustness]
    # The records and images that could not be written, in order, and why.
    unwritten: Mapping[Path, JeatError] = field(default_factory=dict)
    # With several norms the share of the images that withstand all, for each model.
    unions: list[float] = field(default_factory=list)


def attack_each(
    subjects: Sequence[Subject],
    eps: Sequence[float | None] = (None,),
    settings: AttackSettings | None = None,
    *,
    norms: Sequence[str] = (),
    foreign: Foreign | None = None,
    reporter: Reporter = SILENT,
) -> Comparison:
    """Attack every model at every radius, None being the one that it was trained for.

    Several norms have one radius each, or the customary ones. A record holds the result of one
    threat as it is, and several as the list `results`, with `union` for several norms.
    """
    settings = settings or AttackSettings()
    threats = _threats(norms, eps, settings)
    _check_once([subject.path.resolve() for subject in subjects], "model")
    given = [" ".join(str(part) for part in each if part is not None) for each in threats]
    _check_once(given, "threat")
    prepared = _prepare(subjects, threats, settings, foreign, reporter)
    several, many_norms = len(subjects) * len(threats) > 1, len(norms) > 1
    outcomes: list[_Outcome] = []
    for subject, evaluations in prepared:
        outcome = _Outcome()
        for evaluation in evaluations:
            if several:
                threat = evaluation.options.threat
                about = str(threat) if many_norms else f"eps {fraction(threat.eps)}"
                reporter.say(f"{evaluation.model.name}, {about}")
            outcome.add(subject, evaluation, reporter)
        outcome.record(subject, many_norms)
        outcomes.append(outcome)
    unwritten = {path: why for each in outcomes for path, why in each.unwritten.items()}
    if current().is_main and not unwritten:
        for files in (files for each in outcomes for files in each.states):
            files.remove()
    return Comparison(
        [result for each in outcomes for result in each.results],
        unwritten | _moved(subjects),
        [each.union for each in outcomes if each.union is not None],
    )


def _prepare(
    subjects: Sequence[Subject],
    threats: Sequence[tuple[str | None, float | None]],
    settings: AttackSettings,
    foreign: Foreign | None,
    reporter: Reporter,
) -> list[tuple[Subject, list[Evaluation]]]:
    """Return each model with its evaluations; each data set is read once."""
    paths = [subject.path for subject in subjects]
    models, source = load_models(paths, settings, foreign, reporter)
    test_sets: dict[str, Images] = {}
    prepared = []
    for subject, model in zip(subjects, models, strict=True):
        first = prepare(model, source, settings, reporter, test_sets.get(model.meta.dataset))
        test_sets[model.meta.dataset] = first.test_set
        prepared.append((subject, [first.at(norm, radius) for norm, radius in threats]))
    if len(test_sets) > 1:
        reporter.warn(
            f"the runs are on different data sets ({', '.join(test_sets)}): their accuracies are "
            "not comparable"
        )
    return prepared


@dataclass
class _Outcome:
    """The results of one model so far, and what became of their files."""

    results: list[Robustness] = field(default_factory=list)
    unwritten: dict[Path, JeatError] = field(default_factory=dict)
    states: list[StateFiles] = field(default_factory=list)  # to be removed once all is written
    union: float | None = None  # of several norms

    def add(self, subject: Subject, evaluation: Evaluation, reporter: Reporter) -> None:
        """Run an evaluation, and keep its result in the archive."""
        files = StateFiles(subject.progress, evaluation.key) if subject.progress else None
        result, unsaved = run_evaluation(evaluation, files, reporter)
        self.results.append(result)
        if files is not None:
            self.states.append(files)
        if unsaved is not None and (path := evaluation.settings.images_to) is not None:
            self.unwritten[path] = unsaved
        if subject.archive is not None and current().is_main and not subject.moved:
            self.unwritten |= _write([result], subject.archive / _named(result))

    def record(self, subject: Subject, many_norms: bool) -> None:
        """Write the last results, with the union of several norms."""
        if many_norms:
            self.union = _union(self.results)
        if subject.record is not None and current().is_main and not subject.moved:
            union = {} if self.union is None else {"union": self.union}
            self.unwritten |= _write(self.results, subject.record, union)


def _moved(subjects: Sequence[Subject]) -> dict[Path, JeatError]:
    """Say which runs were moved meanwhile; leave no directory under their old names."""
    gone = [subject for subject in subjects if subject.moved]
    for subject in gone:
        with suppress(OSError):  # the state has made it again
            subject.path.parent.rmdir()
    return {
        subject.record or subject.path: JeatError(
            f"`{subject.path}` was moved, removed or started over meanwhile: "
            "the result is only printed",
            "attack it again where it is now, to keep the result with it",
        )
        for subject in gone
    }


def _threats(
    norms: Sequence[str], eps: Sequence[float | None], settings: AttackSettings
) -> list[tuple[str | None, float | None]]:
    """Return norm and radius of each evaluation of a model."""
    if len(norms) > 1:
        if len(set(norms)) < len(norms):
            raise UsageProblem("a norm appears twice", "name each norm once")
        radii = [None] * len(norms) if tuple(eps) == (None,) else list(eps)
        if len(radii) != len(norms):
            raise UsageProblem(
                f"there are {len(norms)} norms and {len(radii)} of their radii",
                "give one `--eps` for each `--norm`, in the same order, or none",
            )
        return list(zip(norms, radii, strict=True))
    if settings.minimum_norm and len(eps) > 1:
        raise UsageProblem(
            "`--minimum-norm` finds the accuracy at every radius at once", "give one `--eps`"
        )
    return [(norms[0] if norms else None, radius) for radius in eps]


def _union(results: Sequence[Robustness]) -> float:
    """Return the share of the images that no attack broke under any threat."""
    rows = zip(*(result.samples["broken_by"] for result in results), strict=True)
    correct = results[0].samples["correct"]
    left = [right and not any(row) for right, row in zip(correct, rows, strict=True)]
    return float(sum(left) / len(left))


def _check_once(values: Sequence[object], kind: str) -> None:
    if twice := [value for number, value in enumerate(values) if value in values[:number]]:
        raise UsageProblem(f"the {kind} `{twice[0]}` is given twice", "name it once")


def _named(result: Robustness) -> str:
    """Name the file of a result, which the same command writes again."""
    radius = fraction(result.eps).replace("/", "of")
    return f"{'+'.join(result.attacks)}-{result.norm}-{radius}-{result.key}.json"


def _write(
    results: Sequence[Robustness], path: Path, more: Mapping[str, float] | None = None
) -> dict[Path, JeatError]:
    """Write a record; where that fails, return why: the results are still to be shown."""
    records = [plain(result) for result in results]
    record = records[0] if len(records) == 1 else {"results": records, **(more or {})}
    text = json.dumps(record, indent=1, allow_nan=False)
    try:
        write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    except JeatError as problem:
        return {path: problem}
    return {}
