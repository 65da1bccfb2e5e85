"""Clean and robust accuracy of a model: prepared once, run once."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..acceleration.ways import NEVER_MEASURED, Wish
from ..checkpoints.model import Model, class_index
from ..checkpoints.settings import Foreign
from ..data.facts import dataset_facts
from ..data.images import to_unit_range
from ..data.tensors import Own, Pixels, given_images
from ..errors import JeatError
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.outputs import ATTACK_IMAGES, check_output
from ..runtime.progress import SILENT, Reporter
from ..runtime.usual_state import in_usual_state
from . import certificate, checks, minimum_norm, purification
from .batch_size import fitting
from .checks import Flag
from .evaluation import Evaluation, load_models, prepare
from .evaluator import Evaluator
from .result import Robustness, beside_published, corruption_errors, save_images
from .settings import AttackSettings
from .state import StateFiles, own_state
from .subset import spread

# This many images show what is wrong with a network; with a third-party one, if as many are
# attacked.
_EXAMINED, _OF_OTHERS = 100, 300


@in_usual_state
def attack(
    run: str | Path | Model | None = None,
    settings: AttackSettings | None = None,
    *,
    images: Own | None = None,
    labels: Pixels | Sequence[int] | None = None,
    foreign: Foreign | None = None,
    progress: str | Path | None = None,
    reporter: Reporter = SILENT,
    **changes: object,
) -> Robustness:
    """Measure clean and robust accuracy on the test images, or on images of your own.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        settings: The attacks, the threat model, the images and the device.
        images: (n, C, H, W) in [0, 1] or uint8, or a DataLoader of them and their labels, in
            place of the test images of the model's data set.
        labels: Indices of the classes (n,), unless a DataLoader has them.
        foreign: Describes the model, if `jeat train` did not write it.
        progress: A directory for the state, so that a call that was killed can resume where it
            stopped, with the same result.
        reporter: Receives the progress.
        changes: Single settings by name, such as `eps=8 / 255`; `transfer_from` may be a loaded
            model.

    Raises:
        JeatError: If the run, the data or a setting is at fault.

    Examples:
        >>> import torch
        >>> from jeatcli import attack, wrap
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> model = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
        >>> x, y = torch.rand(20, 1, 8, 8), torch.arange(20) % 3
        >>> 0 <= attack(model, images=x, labels=y, eps=8 / 255, steps=5).robust <= 1
        True
    """
    began = time.perf_counter()
    settings = AttackSettings.accept(settings or AttackSettings()).with_changes(changes)
    if settings.images_to is not None:
        check_output(settings.images_to, ATTACK_IMAGES, "images_to")
    (model,), source = load_models([run], settings, foreign, reporter)
    own = given_images(images, labels, model.meta.classes, settings.on)
    evaluation = prepare(model, source, settings, reporter, own)
    files = StateFiles(Path(progress), evaluation.key) if progress else None
    result, unsaved = run_evaluation(evaluation, files, reporter, began)
    if unsaved is not None:
        raise unsaved
    if files is not None and current().is_main:
        files.remove()
    return result


def run_evaluation(
    evaluation: Evaluation,
    files: StateFiles | None = None,
    reporter: Reporter = SILENT,
    began: float | None = None,
) -> tuple[Robustness, JeatError | None]:
    """Attack, look for reasons to doubt the outcome, and save the images if that is wanted.

    Return the result, and what kept its images from being saved. The state goes into `files`, which
    the caller removes; the result's seconds count from `began`.
    """
    began = time.perf_counter() if began is None else began
    with own_state(files, reporter) as own:
        return _run(evaluation, own, reporter, began)


def _run(
    evaluation: Evaluation, files: StateFiles | None, reporter: Reporter, began: float
) -> tuple[Robustness, JeatError | None]:
    model, settings = evaluation.model, evaluation.settings
    noisy = certificate.base_classifier(evaluation) if settings.certify else None
    evaluator = _evaluator(evaluation, noisy, files, reporter)
    flags = _flags_before(evaluation, evaluator)
    outcome, attacked = _outcome(evaluation, evaluator, noisy, files, reporter)
    later = checks.after(
        outcome["per_attack"],
        evaluator.source is not None,
        outcome.get("certificate"),
        evaluation.options.threat.eps,
    )
    _warn(later, reporter)
    only = None if settings.only is None else class_index(settings.only, model.meta.classes)
    others = (evaluation.target, evaluation.source, only)
    altered = settings.purify or settings.certify or any(each is not None for each in others)
    entry = None if altered else model.published
    result = Robustness(
        run=model.name,
        dataset=evaluation.test_set.name,
        method=model.meta.method,
        epoch=model.epoch,
        attacks=settings.attacks,
        norm=evaluation.options.threat.norm,
        eps=evaluation.options.threat.eps,
        target=None if evaluation.target is None else model.meta.classes[evaluation.target],
        transfer_from=evaluation.source.name if evaluation.source else None,
        only=None if only is None else model.meta.classes[only],
        indices=None if settings.indices is None else settings.indices.name,
        search=devices.precision_name(evaluator.dtype),
        warnings=[asdict(flag) for flag in (*flags, *later)],
        seconds=time.perf_counter() - began,
        device=str(model.device),
        seed=settings.seed,
        key=evaluation.key,
        version=version("jeat-cli"),
        purification=settings.purification,
        published=beside_published(entry, evaluation.options.threat, outcome),
        corruption_errors=corruption_errors(evaluation.test_set.name, outcome["samples"]),
        **outcome,
    )
    if settings.images_to is None or not current().is_main:
        return result, None
    assert attacked is not None
    return result, save_images(result, attacked, evaluation.images.y, settings.images_to)


def _outcome(
    evaluation: Evaluation,
    evaluator: Evaluator,
    noisy: certificate.Sampler | None,
    files: StateFiles | None,
    reporter: Reporter,
) -> tuple[dict[str, Any], Tensor | None]:
    """Attack; return the fields of the result that follow, and the images if they are kept."""
    if noisy is not None:
        return certificate.measure(evaluation, evaluator, noisy, files, reporter)
    if not evaluation.settings.minimum_norm:
        return evaluator.run(), evaluator.attacked
    threat = evaluation.options.threat
    options = replace(
        evaluation.options, threat=minimum_norm.everywhere(threat.norm, evaluation.model.meta.shape)
    )

    def alone(number: int) -> Evaluator:
        beside = files and StateFiles(files.folder, str(number))
        attacks = evaluation.attacks[number : number + 1]
        return replace(
            evaluator, attacks=attacks, options=options, keep=True, files=beside, left="unbroken"
        )

    return minimum_norm.measure(alone, evaluation.attacks, threat.eps)


def _evaluator(
    evaluation: Evaluation,
    noisy: certificate.Sampler | None,
    files: StateFiles | None,
    reporter: Reporter,
) -> Evaluator:
    """Choose batch size and precision, in every process as in the first.

    `noisy` is the classifier that is smoothed, if one is.
    """
    model, source, settings = evaluation.model, evaluation.source, evaluation.settings
    models = [model] if source is None else [model, source]

    def choose() -> tuple[int, torch.dtype | None]:
        sizes = [fitting(model.classifier, model.meta.shape, model.device) for model in models]
        precision = "fp32" if settings.exact else "auto"
        searched = model if source is None else source
        return settings.batch_size or min(sizes), searched.autocast_type(precision)

    size, dtype = current().from_main(choose)
    if settings.batch_size is None and size < devices.images_at_once((32, 32), model.device):
        reporter.say(devices.batches_of(size, model.meta.shape))
    victim, seen = model.classifier, source.classifier if source else None
    wish = Wish(settings.kernel, settings.compiled)
    as_it_is = NEVER_MEASURED._replace(compiled=bool(settings.compiled))
    if noisy is not None:
        victim, seen = certificate.smoothed(noisy)
        size, dtype, wish = max(1, size // 8), None, as_it_is
    if (about := settings.purification) is not None:
        victim, seen = purification.defended(model, **about, seed=settings.seed)
        size, dtype, wish = max(1, size // about["draws"]), None, as_it_is
    return Evaluator(
        victim,
        evaluation.images,
        evaluation.indices,
        evaluation.attacks,
        evaluation.options,
        target=evaluation.target,
        batch_size=size,
        fixed=settings.batch_size is not None,
        dtype=dtype,
        wish=wish,
        source=seen,
        keep=settings.images_to is not None or settings.certify,
        files=files,
        reporter=reporter,
    )


def _flags_before(evaluation: Evaluation, evaluator: Evaluator) -> list[Flag]:
    """Check the network and the threat model, and warn of what is wrong."""
    model = evaluation.model
    count = max(_EXAMINED, min(_OF_OTHERS, len(evaluation.images))) if model.foreign else _EXAMINED
    few = spread(evaluation.test_set, count).to(model.device)
    flags = checks.of_model(model, to_unit_range(few.x), few.y, evaluator.batch_size)
    few = spread(few, evaluator.batch_size)
    facts = dataset_facts(model.meta.dataset)
    flags += checks.before(
        model.classifier,
        to_unit_range(few.x),
        few.y,
        evaluation.options.threat,
        evaluation.attacks,
        (facts.mean, facts.std) if facts else None,
    )
    _warn(flags, evaluator.reporter)
    return flags


def _warn(flags: Sequence[Flag], reporter: Reporter) -> None:
    for flag in flags:
        reporter.warn(str(flag))
