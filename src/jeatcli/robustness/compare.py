"""Accuracy under attack over several radii and models: the runs of attacks, and their curve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..core.threat import fraction
from ..errors import JeatError
from ..runtime.distributed import current
from ..runtime.files import write_atomic
from ..runtime.progress import SILENT, Reporter
from .agenda import arrange
from .evaluate import attack
from .journal import Journal
from .result import Robustness


@dataclass(frozen=True)
class Subject:
    """A model to attack, and where what is found belongs.

    Args:
        path: The model's file.
        record: The JSON file for the last result, or None for no file.
        archive: The directory that keeps the result of each threat model and each choice of
            attacks, images and settings, or None.
        progress: The directory that keeps the progress meanwhile, or None for no resuming.
    """

    path: Path
    record: Path | None = None
    archive: Path | None = None
    progress: Path | None = None


def attack_each(
    subjects: Sequence[Subject],
    eps: Sequence[float | None] = (None,),
    *,
    transfer_from: str | Path | Model | None = None,
    foreign: Foreign | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
    **settings: Any,
) -> list[Robustness]:
    """Attack every model at every radius; of those that are done, none is attacked again.

    All are loaded before the first one is attacked. A record holds the result of one radius as it
    is, and several as the list `results`.

    Args:
        subjects: The models.
        eps: The radii, None for the one that the run was trained for.
        transfer_from, device: As `evaluate.attack` takes them.
        foreign: What those of the models are that `jeat train` did not write.
        reporter: Listens to the progress.
        settings: The others that `evaluate.attack` takes.

    Raises:
        JeatError: As `evaluate.attack`.
    """
    several = len(subjects) * len(eps) > 1
    others = [] if transfer_from is None else [transfer_from]
    places = [*(subject.path for subject in subjects), *others]
    models = load_each(places, device=device, foreign=foreign, reporter=reporter)
    source = models[len(subjects)] if others else None
    _refuse_early(models[: len(subjects)], source, eps, settings)
    found: list[tuple[Subject, Robustness]] = []
    for subject, model in zip(subjects, models, strict=False):
        for radius in eps:
            if several:
                at = "" if radius is None else f", eps {fraction(radius)}"
                reporter.say(f"{model.name}{at}")
            result = attack(
                model,
                transfer_from=source,
                device=device,
                eps=radius,
                progress=subject.progress,
                keep_progress=True,
                reporter=reporter,
                **settings,
            )
            found.append((subject, result))
            if subject.archive is not None and current().is_main:
                _write([result], subject.archive / _named(result), reporter)
        if subject.record is not None and current().is_main:
            mine = [result for each, result in found if each is subject]
            _write(mine, subject.record, reporter)
    for subject, result in found:
        if subject.progress is not None and current().is_main:
            Journal(subject.progress, result.key).remove()
    return [result for _, result in found]


def _refuse_early(
    models: Sequence[Model],
    source: Model | None,
    eps: Sequence[float | None],
    settings: Mapping[str, Any],
) -> None:
    """Refuse what one of the attacks cannot do before the first has taken its hours."""
    if len(models) * len(eps) == 1:
        return
    known = {key: value for key, value in settings.items() if key in signature(arrange).parameters}
    for model in models:
        for radius in eps:
            arrange(model, source, eps=radius, **known)


def _named(result: Robustness) -> str:
    """Name the file of a result, which the same command writes again."""
    radius = fraction(result.eps).replace("/", "of")
    return f"{'+'.join(result.attacks)}-{result.norm}-{radius}-{result.key}.json"


def _write(results: Sequence[Robustness], path: Path, reporter: Reporter) -> None:
    """Write a record; where that fails, only warn, for it took long to find."""
    each = [asdict(result) for result in results]
    text = json.dumps(each[0] if len(each) == 1 else {"results": each}, indent=1)
    try:
        write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    except JeatError as problem:
        reporter.warn(problem.message)
