"""The quality of images: Inception Score, FID, KID, precision and recall, and their protocol."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from ..catalogue import check_call
from ..checkpoints.model import Model
from ..data.images import Images
from ..data.provenance import Provenance
from ..data.tensors import Own
from ..errors import UsageProblem, unknown
from ..runtime.distributed import current
from ..runtime.outputs import NEIGHBOURS, check_output
from ..runtime.progress import SILENT, Reporter
from ..runtime.usual_state import in_usual_state
from ..sampling.settings import SamplerSettings
from ..settings import declared
from . import features, fidelity
from .contract import checked_metric
from .features import Features
from .inputs import ScoreInputs, class_indices, images_of, of_same_classes, resolve
from .intervals import intervals_of
from .neighbours import Neighbours, look_up
from .protocol import Protocol
from .settings import METRICS, ScoreSettings

DEFAULTS = ScoreSettings()


@dataclass(frozen=True)
class Scores:
    """The scores of images; one that so few images cannot have is None.

    Args:
        run, path: The model's name and file, or the path of the images.
        inception_score, inception_score_std: Mean and spread over the splits; higher is better.
        fid: Fréchet distance between the features of the images and the reference.
        kid, kid_std: Kernel distance, mean and spread over the subsets.
        precision, recall: Share of the images that lie among the reference's, and the reverse.
        metrics: The further scores that were asked for, by name.
        intervals: Those of 95 % of the further scores, `[low, high]`, by name.
        notes: For which scores the images are too few, and why.
        neighbours: The training images nearest to the images, if they were asked for.
        protocol: Everything that the numbers depend on, and whether they compare with others'.
        seconds, device, version: How long it took, and on what.
        seed: Of the drawing, None for stored images.
        epoch: The epoch of the weights, which training replaces; None if they are not a run's.
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
    intervals: dict[str, tuple[float, float]]
    notes: dict[str, str]
    neighbours: Neighbours | None = field(repr=False)
    protocol: dict[str, Any]
    seconds: float
    device: str
    seed: int | None
    version: str
    epoch: int | None = None


@in_usual_state
def image_scores(
    source: str | Path | Model | Own | None = None,
    settings: ScoreSettings = DEFAULTS,
    *,
    real: Own | None = None,
    reporter: Reporter = SILENT,
    **changes: object,
) -> Scores:
    """Score images against a data set, or images of your own, by torch-fidelity.

    Args:
        source: A run, which draws the images, in classes of equal size; a folder of pictures;
            an `.npz` of improved-diffusion's layout; or images (n, C, H, W), which are rounded
            to 8 bits. None is the latest finished run, other than that of `features`.
        settings: Of the scores.
        real: Images to compare with, in place of the data set.
        reporter: Receives the progress.
        changes: Settings by name, of the scores or, for a run, of its sampler: `features`, `num`,
            `sampler`, `steps`.

    Raises:
        JeatError: If a run, a file or the data is at fault.
        UsageProblem: If a setting is, or the images do not fit the reference.

    Examples:
        >>> import torch
        >>> from jeatcli import image_scores, wrap
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> judge = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
        >>> real, drawn = torch.rand(200, 1, 8, 8), torch.rand(100, 1, 8, 8)
        >>> good, bad = (image_scores(x, real=real, features=judge) for x in (drawn, drawn / 2))
        >>> good.fid < bad.fid
        True
    """
    began, (settings, sampling) = time.perf_counter(), _settings(settings, changes)
    inputs = resolve(source, settings, sampling, reporter, real)
    judge, size = inputs.judge, settings.batch_size or inputs.judge.images_at_once(512)
    images, origin, reference = _compared(inputs, settings, sampling, reporter)
    ours = features.extract(images, judge, size, reporter)
    theirs = features.of_reference(reference, settings.reference, judge, size, reporter)
    numbers, notes = _numbers(ours, theirs, settings, reporter)
    values: Any = current().from_main(lambda: fidelity.compute(ours, theirs, numbers))
    metrics = _metrics(settings.metric, ours, theirs, notes, reporter)
    classes = class_indices(inputs.reference, origin)
    protocol = Protocol(origin, judge, reference, inputs.split, numbers, notes, classes)
    return Scores(
        run=inputs.name,
        path=inputs.path,
        **values,
        metrics=metrics,
        intervals=intervals_of(metrics),
        notes=notes,
        neighbours=_neighbours(settings, images, ours, reference, theirs, reporter),
        protocol=protocol.describe(),
        seconds=time.perf_counter() - began,
        device=str(judge.device),
        seed=None if inputs.artist is None else settings.seed or 0,
        version=version("jeat-cli"),
        epoch=inputs.artist.epoch if inputs.artist else None,
    )


def _settings(
    settings: ScoreSettings, changes: Mapping[str, object]
) -> tuple[ScoreSettings, dict[str, object]]:
    """Return the settings of the scores, and those of a sampler."""
    own, samplers = ScoreSettings.__dataclass_fields__, declared(SamplerSettings)
    for name in changes:
        if name not in own and name not in samplers:
            raise unknown("setting", name, [*own, *samplers])
    settings = ScoreSettings.accept(settings).with_changes(
        {k: v for k, v in changes.items() if k in own}
    )
    sampling = {k: v for k, v in changes.items() if k in samplers and v is not None}
    SamplerSettings.of(sampling)
    if settings.neighbours is not None:
        check_output(settings.neighbours, NEIGHBOURS, "--neighbours")
    return settings, sampling


def _compared(
    inputs: ScoreInputs, settings: ScoreSettings, sampling: Mapping[str, object], reporter: Reporter
) -> tuple[Tensor, Provenance, Images]:
    """Return the images, how they came to be, and the real images that they are compared with."""
    reference = inputs.reference
    whose = f"{reference.name} {settings.reference}"
    _require_two(len(reference), whose)
    images, origin = images_of(inputs, settings, sampling, reporter)
    _require_two(len(images), inputs.name)
    if settings.reference_classes == "same":
        reference = of_same_classes(reference, origin, reporter)
        _require_two(len(reference), f"{whose} in these classes")
    return images, origin, reference


def _numbers(
    ours: Features, theirs: Features, settings: ScoreSettings, reporter: Reporter
) -> tuple[fidelity.Numbers, dict[str, str]]:
    """Return on how many images the scores stand, and for which of them those are too few."""
    wanted = settings.kid_subset_size
    numbers = fidelity.Numbers.of(ours, theirs, settings.splits, settings.kid_subsets, wanted)
    if (few := numbers.kid_subset_size) < wanted:
        reporter.say(f"KID over subsets of {few:,} images, not {wanted:,}: there are no more")
    notes = numbers.notes()
    for note in dict.fromkeys(notes.values()):
        reporter.warn(note)
    return numbers, notes


def _metrics(
    names: tuple[str, ...],
    images: Features,
    reference: Features,
    notes: dict[str, str],
    reporter: Reporter,
) -> dict[str, float]:
    """Return the further scores; add to the notes for which of them the images are too few."""
    values: dict[str, float] = {}
    few = min(len(images.values), len(reference.values))
    for name in names:
        score = METRICS.load(name)
        check_call(score, f"metric `{name}`", images, reference)
        found = checked_metric(name, current().from_main(partial(score, images, reference)), values)
        needed = getattr(METRICS[name], "needs", 0)
        if few < needed:
            note = f"few: {few:,} images, and `{name}` is meant for {needed:,} or more"
            notes |= dict.fromkeys(found, note)
            reporter.warn(note)
        values |= found
    return values


def _neighbours(
    settings: ScoreSettings,
    images: Tensor,
    ours: Features,
    reference: Images,
    theirs: Features,
    reporter: Reporter,
) -> Neighbours | None:
    if (path := settings.neighbours) is None:
        return None
    values = ours.values, reference, theirs.values
    return current().from_main(lambda: look_up(images, *values, path, reporter))


def _require_two(num: int, name: str) -> None:
    if num < 2:
        raise UsageProblem(
            f"a score needs at least 2 images, and `{name}` gives {num}", "choose a larger `-n`"
        )
