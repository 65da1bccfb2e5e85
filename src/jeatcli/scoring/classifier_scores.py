"""The scores of the classifier itself: accuracy, calibration and out-of-distribution detection."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model
from ..data.facts import DATASETS, own_path
from ..data.images import Images, load_images, warn_of_shared
from ..data.stored import read_images
from ..data.tensors import Own, Pixels, given_images
from ..runtime.files import expand
from ..runtime.progress import SILENT, Reporter
from ..runtime.usual_state import in_usual_state
from ..runtime.words import counted
from .calibration import BINS, FEWEST, Calibration, Rescaled, calibrate, rescale
from .corruptions import Corrupted, corrupted_accuracy
from .ood import classify, own_scores, separation
from .settings import ClassifierSettings

DEFAULTS = ClassifierSettings()
# Images for a bin of the calibration error, and of each set for a rate at 95 %.
_IN_A_BIN, _DETECTED = 10, 20


@dataclass(frozen=True)
class ClassifierScores:
    """The scores of a classifier on the test images of its data set.

    Args:
        run, path: The model's name and file.
        dataset, n: The data set whose test images were classified, and their number.
        accuracy: Share that was classified correctly.
        calibration, temperature: The calibration, and what a temperature would change of it, if
            they were asked for. The latter is None where no temperature is best.
        ood: For each other data set or folder the number of images `n`; by each of `ood.SCORES`
            the area under the ROC curve; and under `fpr95` and `aupr` the false positive rate
            at 95 % true positives and the average precision by each of them. The test images
            are the positives.
        corruptions: The accuracy on corrupted images, if it was asked for.
        seconds, device, version: How long it took, and on what.
        epoch: The epoch of the weights, which training replaces; None if they are not a run's.
    """

    run: str
    path: Path
    dataset: str
    n: int
    accuracy: float
    calibration: Calibration | None
    temperature: Rescaled | None
    ood: dict[str, dict[str, Any]]
    corruptions: Corrupted | None
    seconds: float
    device: str
    version: str
    epoch: int | None = None


@in_usual_state
def classifier_scores(
    run: str | Path | Model | None = None,
    settings: ClassifierSettings = DEFAULTS,
    *,
    images: Own | None = None,
    labels: Pixels | Sequence[int] | None = None,
    reporter: Reporter = SILENT,
    **changes: object,
) -> ClassifierScores:
    """Score a classifier on the test images of its data set, or on images of your own.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        settings: Which scores, on which images.
        images, labels: As `attack` takes them, in place of the test images.
        reporter: Receives the progress.
        changes: Settings by name: `calibrated`, `ood`, `on`, `num`, `device`.

    Raises:
        JeatError: If a run or the data is at fault.

    Examples:
        >>> import torch
        >>> from jeatcli import classifier_scores, wrap
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> model = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
        >>> x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
        >>> scores = classifier_scores(model, images=x, labels=y)
        >>> 0 <= scores.calibration.ece <= 1
        True
    """
    began = time.perf_counter()
    settings = ClassifierSettings.accept(settings).with_changes(changes)
    (model,) = load_each([run], device=settings.device, foreign=settings.foreign, reporter=reporter)
    model.warn_of_doubts(reporter)
    own = given_images(images, labels, model.meta.classes, settings.on)
    test = _images(model, own, settings, reporter)
    others = {name: _other(name, model, settings, reporter) for name in settings.ood}
    _warn_of_few(len(test), settings.calibrated, others, reporter)
    for name, other in others.items():
        warn_of_shared(name, other, test.x, reporter)
    size = settings.batch_size or model.images_at_once()
    logits = classify(model, test, size)
    highest = logits.softmax(1).max(1)
    correct = highest.indices == test.y.cpu()
    return ClassifierScores(
        run=model.name,
        path=model.path,
        dataset=test.name,
        n=len(test),
        accuracy=correct.double().mean().item(),
        calibration=calibrate(highest.values, correct) if settings.calibrated else None,
        temperature=_rescaled(logits, test.y.cpu(), reporter) if settings.calibrated else None,
        ood=_detection(model, test.x, others, size, reporter),
        corruptions=corrupted_accuracy(model, settings, reporter) if settings.corrupted else None,
        seconds=time.perf_counter() - began,
        device=str(model.device),
        version=version("jeat-cli"),
        epoch=model.epoch,
    )


def _images(
    model: Model, own: Images | None, settings: ClassifierSettings, reporter: Reporter
) -> Images:
    """Return the images that are classified: the user's own, or the data set's."""
    if own is not None:
        model.accepts(own, reporter)
    test = own or model.test_images(settings.on, settings.data_dir, reporter)
    return test if settings.num is None else test.first(settings.num, reporter)


def _warn_of_few(
    num: int, calibrated: bool, others: Mapping[str, Tensor], reporter: Reporter
) -> None:
    """Warn of numbers that so few images do not give."""
    if calibrated and num < _IN_A_BIN * BINS:
        reporter.warn(
            f"the calibration error of {counted(num, 'image')} in {BINS} bins is biased upward: "
            f"take {_IN_A_BIN * BINS:,} or more"
        )
    for name, other in others.items():
        if (few := min(num, len(other))) < _DETECTED:
            reporter.warn(
                f"detection against `{name}` stands on {counted(few, 'image')}, and the false "
                f"positive rate at 95 % needs {_DETECTED} at least"
            )


def _rescaled(logits: Tensor, y: Tensor, reporter: Reporter) -> Rescaled | None:
    """Return what a temperature would change, or None and say why there is none."""
    if found := rescale(logits, y):
        return found
    fitted = (logits.argmax(1) == y)[::2]
    if len(y) < FEWEST:
        reporter.warn(f"no temperature is fitted to fewer than {FEWEST} images")
    elif fitted.all():
        reporter.warn(
            f"no temperature is best for the {len(fitted):,} images that it is fitted to: all are "
            "classified correctly, and the cross-entropy falls on as it goes to 0"
        )
    else:
        reporter.warn("no temperature is best: the logits tell nothing of the images' classes")
    return None


def _detection(
    model: Model, images: Tensor, others: Mapping[str, Tensor], size: int, reporter: Reporter
) -> dict[str, dict[str, Any]]:
    """Return how well the scores tell the images from each set of others."""
    if not others:
        return {}
    own = own_scores(model, images, size, reporter)
    return {
        name: {"n": len(other), **separation(own, own_scores(model, other, size, reporter))}
        for name, other in others.items()
    }


def _other(name: str, model: Model, settings: ClassifierSettings, reporter: Reporter) -> Tensor:
    """Read the images of another data set, folder or archive, uint8 (n, C, H, W)."""
    path = expand(name)
    named = name in DATASETS or own_path(name) is not None
    if not named and (path.is_dir() or path.suffix.lower() == ".npz"):
        pixels, _ = read_images(path, model.meta.shape, reporter=reporter, most=settings.num)
        return torch.from_numpy(pixels)
    images = load_images(name, "test", data_dir=settings.data_dir, reporter=reporter)
    model.accepts(images, any_classes=True)
    return images.first(min(settings.num or len(images), len(images)), reporter).x
