"""Drawing images: descent on an energy, from noise to a class."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..acceleration.dispatch import choose
from ..acceleration.twins import accelerate
from ..acceleration.ways import Way, Wish, Work
from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model, class_index
from ..checkpoints.settings import Foreign
from ..core import pgd
from ..data.facts import TENSORS
from ..errors import UsageProblem
from ..methods import sampling_of
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Reporter
from ..runtime.usual_state import in_usual_state
from ..runtime.words import counted
from . import edits, initializers, samplers
from .plan import SamplingPlan, Trace
from .settings import SampleSettings

DEFAULTS = SampleSettings()


@dataclass(frozen=True)
class Samples:
    """Drawn images.

    Args:
        images: (n, C, H, W) in [0, 1], float32, on the CPU.
        labels, classes: Their classes (n,), and the names of the model's.
        settings: Every setting that they depend on.
        seconds, device: How long it took, and on what.
        trace: The first images at some steps, (frames, m, C, H, W), and the numbers of the steps.
        origin: The picture (C, H, W) that they were made from, if any.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    settings: dict[str, Any]
    seconds: float
    device: str
    trace: tuple[Tensor, list[int]] | None = None
    origin: Tensor | None = None

    def __repr__(self) -> str:
        """Say what was drawn on one line, without the pixels."""
        shape = "x".join(map(str, self.images.shape[1:]))
        how = ", ".join(f"{key} {value}" for key, value in self.settings.items() if key != "n")
        return f"<Samples: {counted(len(self.images), 'image')} {shape}; {how}>"

    @property
    def distance(self) -> Tensor | None:
        """The l2 distance of each image from the one it was made of, (n,), or None."""
        return None if self.origin is None else pgd.l2_norm(self.images - self.origin).flatten()


@in_usual_state
def sample(
    run: str | Path | Model | None = None,
    settings: SampleSettings = DEFAULTS,
    *,
    foreign: Foreign | None = None,
    frames: int = 0,
    reporter: Reporter = SILENT,
    **changes: object,
) -> Samples:
    """Draw images from a checkpoint alone; image k depends on the seed and k only.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        settings: What to draw and how.
        foreign: Describes the model, if `jeat train` did not write it.
        frames: States of the first ten images to keep, along their descent.
        reporter: Receives the progress.
        changes: Single settings, such as `num`, `classes`, `sampler`, `seed`.

    Raises:
        JeatError: If the run or a setting is at fault.

    Examples:
        >>> from jeatcli import load, sample
        >>> dogs = sample(load("pretrained"), classes=["dog"], num=2, steps=1)
        >>> dogs.images.shape
        torch.Size([2, 3, 32, 32])
        >>> dogs.labels.tolist(), dogs.settings["sampler"]
        ([5, 5], 'ascent')
    """
    if not isinstance(frames, int) or frames < 0:
        raise UsageProblem(f"`frames` must be a whole number from 0, not {frames!r}")
    plan = prepare(run, settings, foreign=foreign, reporter=reporter, **changes)
    return draw_all(plan, frames, reporter)


def prepare(
    run: str | Path | Model | None = None,
    settings: SampleSettings = DEFAULTS,
    *,
    foreign: Foreign | None = None,
    reporter: Reporter = SILENT,
    **changes: object,
) -> SamplingPlan:
    """Decide everything about images that are to be drawn; the arguments are those of `sample`.

    By default there are eight images of each class (64 of one or of many), one of each for a
    counterfactual, and eight for an interpolation.
    """
    settings = SampleSettings.accept(settings).with_changes(changes)
    (model,) = load_each([run], device=settings.device, foreign=foreign, reporter=reporter)
    # `auto` measures, so the first process decides for all.
    dtype = current().from_main(lambda: model.autocast_type(settings.precision))
    plan = _plan(model, settings, dtype, reporter)
    record = plan.settings | ({"best_of": settings.best_of} if settings.best_of > 1 else {})
    if settings.interpolate is not None:
        num = settings.num or 8
        plan = edits.interpolation(plan, settings.interpolate, num)
        # Image k of an interpolation depends on how many there are.
        record["interpolate_images"] = num
    else:
        classes = _classes(settings.classes, model.meta.classes)
        plan = edits.apply(replace(plan, labels=_labels(classes, settings)), settings, reporter)
        if classes != list(range(len(model.meta.classes))):
            record["classes"] = [model.meta.classes[k] for k in classes]
    _warn(plan, settings, reporter)
    record |= edits.describe(settings, model.meta.dataset) | {
        "precision": devices.precision_name(dtype),
        "seed": settings.seed,
        "run": model.name,
        "n": len(plan.labels),
    }
    # Not a part of the record, which is what decides the images: this rounds them.
    wish = Wish(settings.kernel, settings.compiled)
    way = current().from_main(lambda: _fastest(plan, dtype, wish, reporter))
    twin = accelerate(model.classifier, dtype, way)
    return replace(plan, settings=record, way=way, twin=twin)


def _fastest(plan: SamplingPlan, dtype: torch.dtype | None, wish: Wish, reporter: Reporter) -> Way:
    """Return how to compute the network for the images of a plan."""
    images = len(plan.labels)
    passes = images * plan.sampler.steps * plan.best_of
    work = Work(plan.model.meta.shape, min(images, plan.batch_size), passes)
    return choose(plan.model.classifier, dtype, work, wish, reporter)


def draw_all(plan: SamplingPlan, frames: int = 0, reporter: Reporter = SILENT) -> Samples:
    """Draw the images of a plan; `frames` states of the first ten are kept as well."""
    began = time.perf_counter()
    trace = Trace(plan.sampler.steps, frames) if frames else None
    if trace:  # those ten come in one batch
        plan = replace(plan, batch_size=max(plan.batch_size, trace.images))
    images = torch.cat([images for _, images in plan.batches(reporter, trace=trace)])
    return Samples(
        images.cpu(),
        plan.labels,
        plan.model.meta.classes,
        plan.settings | plan.way._asdict(),
        time.perf_counter() - began,
        str(plan.model.device),
        trace.gathered() if trace else None,
        None if plan.origin is None else plan.origin.cpu(),
    )


def draw(
    model: Model,
    labels: Tensor,
    seed: int,
    batch_size: int | None = None,
    data_dir: Path | None = None,
    reporter: Reporter = SILENT,
) -> Tensor:
    """Draw (n, C, H, W) for labels (n,) as the model's method does by default, on its device."""
    settings = SampleSettings(seed=seed, batch_size=batch_size, data_dir=data_dir)
    plan = replace(_plan(model, settings, None, reporter), labels=labels.cpu())
    return torch.cat([images for _, images in plan.batches(reporter)])


def _plan(
    model: Model, settings: SampleSettings, dtype: torch.dtype | None, reporter: Reporter
) -> SamplingPlan:
    """Return how images are drawn from a model; which ones is for the caller to say."""
    suited, objective = sampling_of(model.meta.method)
    name = settings.sampler or suited
    sampler = samplers.resolve(name, model, settings)
    if settings.guidance is not None:
        objective = "joint"
    elif name != suited:
        objective = sampler.objective
    objective = settings.objective or objective
    guidance = {} if settings.guidance is None else {"guidance": settings.guidance}
    init = settings.init or _init(sampler, model)
    start = "uniform" if settings.image is not None else init
    return SamplingPlan(
        model,
        sampler,
        objective,
        initializers.resolve(start, model, settings.data_dir, reporter),
        torch.empty(0, dtype=torch.int64),
        {"sampler": name, "objective": objective, **guidance, "init": init, **sampler.describe()},
        seed=settings.seed,
        best_of=settings.best_of,
        guidance=settings.guidance or 0.0,
        batch_size=settings.batch_size or model.images_at_once(),
        twin=accelerate(model.classifier, dtype),
    )


def _init(sampler: samplers.Sampler, model: Model) -> str:
    """Return where images start: where the negatives of DAT did."""
    options = model.meta.options
    as_dat = "chain_step_size" in options and sampler.init == "gaussian"
    if model.meta.dataset == TENSORS:
        return "uniform"  # the statistics of classes are those of training images
    return str(options["chain_start"]) if as_dat else sampler.init


def _classes(names: Sequence[str | int], known: tuple[str, ...]) -> list[int]:
    """Return the indices of the classes that are drawn in turn."""
    classes: list[int] = []
    for name in names or ("all",):
        classes += range(len(known)) if name == "all" else [class_index(name, known)]
    return classes


def _labels(classes: Sequence[int], settings: SampleSettings) -> Tensor:
    many = 8 * len(classes) if 1 < len(classes) <= 20 else 64
    num = settings.num or (len(classes) if settings.edits else many)
    return torch.tensor([classes[k % len(classes)] for k in range(num)])


def _warn(plan: SamplingPlan, settings: SampleSettings, reporter: Reporter) -> None:
    plan.model.warn_of_doubts(reporter)
    model = plan.model
    devices.tell_if_emulated(settings.precision, model.device, reporter)
    at_32 = devices.images_at_once((32, 32), model.device)
    if settings.batch_size is None and plan.batch_size < at_32:
        reporter.say(devices.batches_of(plan.batch_size, model.meta.shape))
    repeated = settings.best_of > 1 or len(set(plan.labels.tolist())) < len(plan.labels)
    if settings.image is not None and not plan.sampler.random and repeated:
        reporter.warn("from one picture without noise, all images of a class are the same")
