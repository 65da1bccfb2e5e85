"""Clean and robust accuracy of a model: prepared once, run once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model, class_index
from ..checkpoints.settings import Foreign
from ..core.threat import Threat
from ..data.facts import customary_eps, dataset_facts
from ..data.images import Images, to_unit_range
from ..data.tensors import Own, Pixels, own_images
from ..errors import JeatError
from ..runtime import devices
from ..runtime.digests import digest, tensor_digest
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Reporter
from . import checks, minimum_norm
from .attacks.attack import Attack, for_classes, resolve_attacks
from .attacks.batch import AttackOptions
from .batch_size import fitting
from .checks import Flag
from .evaluator import Evaluator
from .result import Robustness, beside_published, save_images
from .settings import AttackSettings
from .state import StateFiles
from .subset import CPU_IMAGES, spread, subset

# So many images show what is wrong with a network; with that of others, if as many are attacked.
_EXAMINED, _OF_OTHERS = 100, 300


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is ready to run: everything is read and checked."""

    model: Model  # whose predictions count
    source: Model | None  # the model that the attacks see in its place, or None
    settings: AttackSettings  # as they were given
    options: AttackOptions  # the threat model, and the options of the attacks
    attacks: Sequence[Attack]  # in turn
    test_set: Images  # all test images
    images: Images  # those that are attacked, on the model's device; `indices` are theirs
    indices: Tensor
    target: int | None  # the class to reach, or None

    def at(self, norm: str | None, eps: float | None) -> Evaluation:
        """Return the same evaluation under another threat; None is that of the settings."""
        threat = _threat(self.model, norm or self.settings.norm, eps)
        for attack in self.attacks:
            attack.check(len(self.model.meta.classes), self.target is not None, threat.norm)
        return replace(self, options=replace(self.options, threat=threat))

    @property
    def key(self) -> str:
        """A digest of everything that the verdicts depend on, but for rounding."""
        models = [self.model] if self.source is None else [self.model, self.source]
        return digest(
            models=[model.fingerprint for model in models],
            attacks=[(attack.name, attack.options) for attack in self.attacks],
            plan=asdict(self.options),
            images=tensor_digest(self.images.x, self.images.y, self.indices),
            aim=self.target,
            exact=self.settings.exact,
            compiled=bool(self.settings.compiled),
            keep=self.settings.images_to is not None,
            device=self.images.x.device.type,
        )


def attack(
    run: str | Path | Model | None = None,
    settings: AttackSettings | None = None,
    *,
    images: Own | None = None,
    labels: Pixels | Sequence[int] | None = None,
    foreign: Foreign | None = None,
    progress: Path | None = None,
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
        foreign: What the model is, if `jeat train` did not write it.
        progress: A directory that keeps the state meanwhile, so that a call that was killed goes
            on where it stopped, to the same result.
        reporter: Listens to the progress.
        changes: Single settings by name, such as `eps=8 / 255`; `transfer_from` may be a loaded
            model.

    Raises:
        JeatError: If the run, the data or a setting is at fault.
    """
    began = time.perf_counter()
    settings = (settings or AttackSettings()).with_changes(changes)
    (model,), source = load_models([run], settings, foreign, reporter)
    own = own_images(images, labels, model.meta.classes) if images is not None else None
    evaluation = prepare(model, source, settings, reporter, own)
    files = StateFiles(progress, evaluation.key) if progress else None
    result = run_evaluation(evaluation, files, reporter, began)
    if files is not None and current().is_main:
        files.remove()
    return result


def load_models(
    runs: Sequence[str | Path | Model | None],
    settings: AttackSettings,
    foreign: Foreign | None,
    reporter: Reporter,
) -> tuple[list[Model], Model | None]:
    """Load the models to attack, and the one that the examples are crafted on, if any."""
    transfer_from = cast("str | Path | Model | None", settings.transfer_from)
    names = [*runs] if transfer_from is None else [*runs, transfer_from]
    models = load_each(names, device=settings.device, foreign=foreign, reporter=reporter)
    return models[: len(runs)], models[len(runs)] if len(models) > len(runs) else None


def prepare(
    model: Model,
    source: Model | None,
    settings: AttackSettings,
    reporter: Reporter = SILENT,
    test_set: Images | None = None,
) -> Evaluation:
    """Read the images, unless `test_set` has them, and check the settings.

    The predictions of `model` count; the attacks see `source` in its place, if there is one.
    """
    options = AttackOptions(
        _threat(model, settings.norm, settings.eps),
        settings.objective,
        settings.steps,
        settings.step_size,
        settings.restarts,
        settings.queries,
        settings.seed,
    )
    classes = model.meta.classes
    names = settings.attacks or (("fmn",) if settings.minimum_norm else ("pgd",))
    settings = replace(settings, attacks=for_classes(names, len(classes)))
    attacks = resolve_attacks(settings.attacks, options, len(classes), settings.target is not None)
    if settings.minimum_norm:
        attacks = minimum_norm.nearest_attacks(attacks, transferred=source is not None)
    if test_set is None:
        test_set = model.test_images(settings.on, settings.data_dir, reporter)
    else:
        model.accepts(test_set, reporter)
    if source is not None:
        _check_source(source, model)
    target, only = (
        None if name is None else class_index(name, classes)
        for name in (settings.target, settings.only)
    )
    on_cpu = model.device.type == "cpu"
    indices = subset(test_set, settings, only, target, on_cpu)
    if on_cpu and settings.num is None and CPU_IMAGES == len(indices) < len(test_set):
        reporter.say(f"using the first {CPU_IMAGES:,} of {len(test_set):,} test images, on a CPU")
    for attack in attacks:
        attack.check(len(classes), target is not None, options.threat.norm)
    images = replace(test_set, x=test_set.x[indices], y=test_set.y[indices]).to(model.device)
    return Evaluation(model, source, settings, options, attacks, test_set, images, indices, target)


def run_evaluation(
    evaluation: Evaluation,
    files: StateFiles | None = None,
    reporter: Reporter = SILENT,
    began: float | None = None,
) -> Robustness:
    """Attack, look for reasons to doubt the outcome, and save the images if that is wanted.

    The state goes into `files`, which the caller removes; the result's seconds count from `began`.
    """
    began = time.perf_counter() if began is None else began
    evaluator = _evaluator(evaluation, files, reporter)
    model, settings = evaluation.model, evaluation.settings
    flags = _flags_before(evaluation, evaluator)
    outcome, attacked = _outcome(evaluation, evaluator, files, reporter)
    later = checks.after(outcome["per_attack"], transferred=evaluation.source is not None)
    _warn(later, reporter)
    entry = model.published if evaluation.target is None and evaluation.source is None else None
    result = Robustness(
        run=model.name,
        dataset=evaluation.test_set.name,
        method=model.meta.method,
        attacks=settings.attacks,
        norm=evaluation.options.threat.norm,
        eps=evaluation.options.threat.eps,
        target=None if evaluation.target is None else model.meta.classes[evaluation.target],
        transfer_from=evaluation.source.name if evaluation.source else None,
        search=devices.precision_name(evaluator.dtype),
        warnings=[asdict(flag) for flag in (*flags, *later)],
        seconds=time.perf_counter() - began,
        device=str(model.device),
        seed=settings.seed,
        key=evaluation.key,
        version=version("jeat-cli"),
        published=beside_published(entry, evaluation.options.threat, outcome),
        **outcome,
    )
    if settings.images_to is not None and current().is_main:
        assert attacked is not None
        save_images(result, attacked, evaluation.images.y, settings.images_to)
    return result


def _outcome(
    evaluation: Evaluation, evaluator: Evaluator, files: StateFiles | None, reporter: Reporter
) -> tuple[dict[str, Any], Tensor | None]:
    """Attack; return the fields of the result that follow, and the images if they are kept."""
    if not evaluation.settings.minimum_norm:
        return evaluator.run(), evaluator.attacked
    threat = evaluation.options.threat
    options = replace(
        evaluation.options, threat=minimum_norm.everywhere(threat.norm, evaluation.model.meta.shape)
    )

    def alone(number: int) -> Evaluator:
        beside = files and StateFiles(files.folder, str(number))
        attacks = evaluation.attacks[number : number + 1]
        return replace(evaluator, attacks=attacks, options=options, keep=True, files=beside)

    return minimum_norm.measure(alone, evaluation.attacks, threat.eps)


def _evaluator(evaluation: Evaluation, files: StateFiles | None, reporter: Reporter) -> Evaluator:
    """Choose batch size and precision, in every process as in the first."""
    model, source, settings = evaluation.model, evaluation.source, evaluation.settings
    models = [model] if source is None else [model, source]

    def choose() -> tuple[int, torch.dtype | None]:
        sizes = [fitting(model.classifier, model.meta.shape, model.device) for model in models]
        precision = "fp32" if settings.exact else "auto"
        searched = model if source is None else source
        return settings.batch_size or min(sizes), searched.autocast_type(precision)

    size, dtype = current().from_main(choose)
    return Evaluator(
        model.classifier,
        evaluation.images,
        evaluation.indices,
        evaluation.attacks,
        evaluation.options,
        evaluation.target,
        size,
        settings.batch_size is not None,
        dtype,
        bool(settings.compiled),
        source.classifier if source else None,
        keep=settings.images_to is not None,
        files=files if current().is_main else None,
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


def _threat(model: Model, norm: str | None, eps: float | None) -> Threat:
    """Return the threat model: what is given, else what the run was trained for."""
    trained = model.meta.threat
    norm = norm or trained.norm
    if eps is not None:
        return Threat(norm, eps)
    if norm == trained.norm:
        return trained
    return Threat(norm, customary_eps(model.meta.dataset)[norm])


def _check_source(source: Model, model: Model) -> None:
    """Refuse a source with other images or classes."""
    if source.meta.shape != model.meta.shape or source.meta.classes != model.meta.classes:
        raise JeatError(
            f"`{source.name}` was trained on {source.meta.dataset}, `{model.name}` on "
            f"{model.meta.dataset}: their classes differ",
            "give `--transfer-from` a network trained on the same data set",
        )
