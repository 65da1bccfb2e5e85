"""The quality of images: Inception Score, FID, KID, precision and recall, and their protocol."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.model import Model
from ..data.images import Images
from ..errors import UsageProblem, unknown
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.files import NEIGHBOURS, check_output
from ..runtime.progress import SILENT, Reporter
from ..sampling.settings import SamplerSettings
from ..settings import declared
from . import features, fidelity
from .features import Features, Judge
from .inputs import class_indices, images_of, of_same_classes, resolve
from .neighbours import Neighbours, look_up
from .protocol import Protocol
from .settings import METRICS, ScoreSettings

_INCEPTION_BATCH, _CLASSIFIER_BATCH = 64, 512
DEFAULTS = ScoreSettings()


@dataclass(frozen=True)
class Scores:
    """The scores of images; one that so few images do not have is None.

    Args:
        run: The run's name, or the path of the images.
        path: The model's file, or that of the images.
        inception_score, inception_score_std: Mean and spread over the splits; higher is better.
        fid: Fréchet distance between the features of the images and the reference.
        kid, kid_std: Kernel distance, mean and spread over the subsets.
        precision: Share of the images that lie among those of the reference.
        recall: Share of the reference's images that lie among the images.
        metrics: The further scores that were asked for, by name.
        notes: For which scores the images are too few, and why.
        neighbours: The training images nearest to the images, if they were asked for.
        protocol: Everything that the numbers depend on, and whether they compare with others'.
        seconds, device, version: Of the computation.
        seed: Of the drawing, None for images that were there.
    """

    run: str
    path: Path
    inception_score: float | None
    inception_score_std: float | None
    fid: float
    kid: float
    kid_std: float | None
    precision: float
    recall: float
    metrics: dict[str, float]
    notes: dict[str, str]
    neighbours: Neighbours | None
    protocol: dict[str, Any]
    seconds: float
    device: str
    seed: int | None
    version: str


def image_scores(
    source: str | Path | Model | None = None,
    settings: ScoreSettings = DEFAULTS,
    *,
    reporter: Reporter = SILENT,
    **changes: object,
) -> Scores:
    """Score images against a data set by torch-fidelity.

    Args:
        source: A run, which draws the images, in classes of equal size; a folder of pictures;
            or an `.npz` of improved-diffusion's layout. None is the latest finished run, other
            than that of `features`.
        settings: Of the scores.
        reporter: Listens to the progress.
        changes: Settings by name, of the scores or, for a run, of its sampler: `features`, `num`,
            `sampler`, `steps`.

    Raises:
        JeatError: If a run, a file or the data is at fault.
        UsageProblem: If a setting is, or the images do not fit the reference.
    """
    began = time.perf_counter()
    settings, sampling = _settings(settings, changes)
    if settings.neighbours is not None:
        check_output(settings.neighbours, NEIGHBOURS, "--neighbours")
    inputs = resolve(source, settings, sampling, reporter)
    reference = inputs.reference
    _require_two(len(reference), f"{reference.name} {settings.reference}")
    images, known = images_of(inputs, settings, sampling, reporter)
    _require_two(len(images), inputs.name)
    if settings.reference_classes == "same":
        reference = of_same_classes(reference, known, reporter)
        _require_two(len(reference), f"{reference.name} {settings.reference} in these classes")
    ours, theirs = _features(inputs.judge, images, reference, settings, reporter)
    numbers = fidelity.Numbers.of(
        ours, theirs, settings.splits, settings.kid_subsets, settings.kid_subset_size
    )
    notes = _notes(numbers, settings, reporter)
    group = current()
    values: Any = group.from_main(lambda: fidelity.compute(ours, theirs, numbers))
    metrics = group.from_main(lambda: _metrics(settings.metric, ours, theirs))
    near = _nearest(images, ours, reference, theirs, settings.neighbours)
    classes = class_indices(inputs.reference, known)
    protocol = Protocol(known, inputs.judge, reference, settings.reference, numbers, notes, classes)
    return Scores(
        run=inputs.name,
        path=inputs.path,
        **values,
        metrics=metrics,
        notes=notes,
        neighbours=near,
        protocol=protocol.describe(),
        seconds=time.perf_counter() - began,
        device=str(_device(inputs.judge, settings)),
        seed=None if inputs.artist is None else settings.seed or 0,
        version=version("jeat-cli"),
    )


def _nearest(
    images: Tensor, ours: Features, reference: Images, theirs: Features, picture: Path | None
) -> Neighbours | None:
    """Draw the images beside the training images nearest to them, if that was asked for."""
    if picture is None:
        return None
    return current().from_main(
        lambda: look_up(images, ours.values, reference, theirs.values, picture)
    )


def _settings(
    settings: ScoreSettings, changes: Mapping[str, object]
) -> tuple[ScoreSettings, dict[str, object]]:
    """Return the settings of the scores, and those that are of a sampler."""
    own, samplers = ScoreSettings.__dataclass_fields__, declared(SamplerSettings)
    for name in changes:
        if name not in own and name not in samplers:
            raise unknown("setting", name, [*own, *samplers])
    settings = settings.with_changes({k: v for k, v in changes.items() if k in own})
    sampling = {k: v for k, v in changes.items() if k in samplers and v is not None}
    SamplerSettings.of(sampling)
    return settings, sampling


def _device(judge: Judge, settings: ScoreSettings) -> torch.device:
    return judge.device if isinstance(judge, Model) else devices.pick(settings.device)


def _features(
    judge: Judge, images: Tensor, reference: Images, settings: ScoreSettings, reporter: Reporter
) -> tuple[Features, Features]:
    """Return the features of the images and of the reference."""
    usual = _CLASSIFIER_BATCH if isinstance(judge, Model) else _INCEPTION_BATCH
    size, device = settings.batch_size or usual, _device(judge, settings)
    ours = features.extract(images, judge, size, device, reporter)
    split = settings.reference
    return ours, features.of_reference(reference, split, judge, size, device, reporter)


def _notes(
    numbers: fidelity.Numbers, settings: ScoreSettings, reporter: Reporter
) -> dict[str, str]:
    """Say for which scores the images are too few."""
    few, many = numbers.kid_subset_size, settings.kid_subset_size
    if few < many:
        reporter.say(f"KID over subsets of {few:,} images, not {many:,}: there are no more")
    notes = numbers.notes()
    for note in dict.fromkeys(notes.values()):
        reporter.warn(note)
    return notes


def _metrics(names: tuple[str, ...], images: Features, reference: Features) -> dict[str, float]:
    values: dict[str, float] = {}
    for name in names:
        values |= METRICS.load(name)(images, reference)
    return values


def _require_two(num: int, name: str) -> None:
    if num < 2:
        raise UsageProblem(
            f"a score needs at least 2 images, and `{name}` gives {num}", "choose a larger `-n`"
        )
