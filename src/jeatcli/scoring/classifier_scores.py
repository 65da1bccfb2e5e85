"""The scores of the classifier itself: accuracy, calibration, and what it takes for its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..data.facts import DATASETS
from ..data.images import Images, batches, load_images
from ..data.stored import read_images
from ..errors import JeatError
from ..runtime.files import expand
from ..runtime.progress import SILENT, Reporter
from . import calibration
from .calibration import Calibration
from .ood import SCORES, auroc, finite, own_scores


@dataclass(frozen=True)
class ClassifierScores:
    """What was found of a classifier on the test images of its data set.

    Args:
        run: The model's name.
        dataset: Whose test images were classified.
        n: How many.
        accuracy: Share that was classified correctly.
        calibration: The calibration, if it was asked for.
        ood: For each other data set or folder, how many images, and the area under the ROC
            curve by each of `ood.SCORES`; the test images are the positive ones.
        seconds, device, version: Of the computation.
    """

    run: str
    dataset: str
    n: int
    accuracy: float
    calibration: Calibration | None
    ood: dict[str, dict[str, float]]
    seconds: float
    device: str
    version: str


def classifier_scores(
    run: str | Path | Model | None = None,
    *,
    calibrated: bool = True,
    ood: Sequence[str] = (),
    num: int | None = None,
    foreign: Foreign | None = None,
    data_dir: str | Path | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> ClassifierScores:
    """Score a classifier on the test images of its data set.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        calibrated: Whether to compute the calibration.
        ood: Data sets, of which the test images are taken, or folders of pictures and `.npz`
            files, of the shape of the classifier's images.
        num: The first so many images of each set; all of them without it.
        foreign: What the model is, if `jeat train` did not write it.
        data_dir: Where the data sets are.
        batch_size: Images at a time.
        device: Where to compute.
        reporter: Listens to the progress.

    Raises:
        JeatError: If a run or the data is at fault.
    """
    began = time.perf_counter()
    (model,) = load_each([run], device=device, foreign=foreign, reporter=reporter)
    test = load_images(model.meta.dataset, "test", data_dir=data_dir, limit=num, reporter=reporter)
    model.accepts(test, reporter)
    others = {name: _other(name, model, num, data_dir, reporter) for name in ood}
    size = batch_size or 256
    confidence, correct = _predictions(model, test, size)
    found = calibration.calibrate(confidence, correct) if calibrated else None
    return ClassifierScores(
        run=model.name,
        dataset=model.meta.dataset,
        n=len(test),
        accuracy=correct.double().mean().item(),
        calibration=found,
        ood=_areas(model, test.x, others, size, reporter),
        seconds=time.perf_counter() - began,
        device=str(model.device),
        version=version("jeat-cli"),
    )


def _other(
    name: str, model: Model, num: int | None, data_dir: str | Path | None, reporter: Reporter
) -> Tensor:
    """Read the images of another kind, uint8 (n, C, H, W)."""
    path = expand(name)
    if name not in DATASETS and (path.is_dir() or path.suffix.lower() == ".npz"):
        pixels, _ = read_images(path, model.meta.shape, None, reporter)
        if not len(pixels):
            raise JeatError(f"`{path}` holds no images", "name another file or folder")
        return torch.from_numpy(pixels)[:num]
    images = load_images(name, "test", data_dir=data_dir, reporter=reporter)
    model.accepts(images, any_classes=True)
    return images.x[:num]


@torch.no_grad()
def _predictions(model: Model, images: Images, size: int) -> tuple[Tensor, Tensor]:
    """Return the confidence in the predicted classes, float64 (n,), and whether they are right."""
    parts = []
    for x, y in batches(images, size):
        logits = finite(model, model.classifier(x.to(model.device)).cpu())
        highest = logits.double().softmax(1).max(1)
        parts.append((highest.values, highest.indices == y))
    confidence, correct = zip(*parts, strict=True)
    return torch.cat(confidence), torch.cat(correct)


def _areas(
    model: Model, own: Tensor, others: dict[str, Tensor], size: int, reporter: Reporter
) -> dict[str, dict[str, float]]:
    if not others:
        return {}
    ours = own_scores(model, own, size, reporter)
    found: dict[str, dict[str, float]] = {}
    for name, images in others.items():
        theirs = own_scores(model, images, size, reporter)
        areas = {each: auroc(ours[each], theirs[each]) for each in SCORES}
        found[name] = {"n": len(images), **areas}
    return found
