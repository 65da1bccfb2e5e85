"""Drawing images: descent on an energy, from noise to a class."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..acceleration.twins import accelerate
from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model, class_index
from ..checkpoints.settings import Foreign
from ..errors import UsageProblem
from ..methods import sampling_of
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Reporter
from . import initializers
from .drawing import Drawing, Samples
from .edits import NO_EDIT, Edit, Interpolation
from .initializers import with_statistics
from .plan import Recipe
from .settings import OBJECTIVES, OPTIONS, SAMPLERS, STARTS, Descent

__all__ = [
    "OBJECTIVES",
    "SAMPLERS",
    "STARTS",
    "Descent",
    "Drawing",
    "Edit",
    "Samples",
    "defaults",
    "draw",
    "plan",
    "sample",
    "with_statistics",
]

# What `Descent.with_settings` knows.
SETTINGS = (
    *("objective", "init", "steps", "step_size", "stop"),
    *(name for names in OPTIONS.values() for name in names),
)


def sample(
    run: str | Path | Model | None = None,
    *,
    batch_size: int = 256,
    frames: int = 0,
    reporter: Reporter = SILENT,
    **settings: Any,
) -> Samples:
    """Draw images from a checkpoint alone; image k depends on the seed and k only.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        batch_size: Images at a time.
        frames: States of the first ten images to keep, along their way.
        reporter: Listens to the progress.
        settings: All else that `plan` takes, such as `num`, `classes`, `sampler`, `seed`.

    Raises:
        JeatError: If the run or a setting is at fault.
    """
    began = time.perf_counter()
    drawn = plan(run, reporter=reporter, **settings).all(batch_size, reporter, frames)
    return Samples(**{**vars(drawn), "seconds": time.perf_counter() - began})


def plan(
    run: str | Path | Model | None = None,
    *,
    num: int | None = None,
    classes: Sequence[str | int] = ("all",),
    sampler: str | None = None,
    best_of: int | None = None,
    seed: int = 0,
    edit: Edit = NO_EDIT,
    precision: str | None = None,
    compiled: bool | None = None,
    foreign: Foreign | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
    **settings: Any,
) -> Drawing:
    """Decide all about images that are to be drawn.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        num: How many; by default eight of each class (64 of one or of many), one of each for a
            counterfactual, eight for a way between two classes.
        classes: Names or indices, taken in turn; `all` stands for every class.
        sampler: `sgld`, `ascent` or `pgd`; None is the default of the model's method.
        best_of: Candidates an image, of which the one of the lowest objective is kept.
        seed: Of everything random.
        edit: What to draw from, if not from nothing.
        precision: Of the network's inside: `fp32` (also None), `bf16`, or `auto` for the
            faster one.
        compiled: Whether torch compiles the network: minutes at the start, faster steps.
        foreign: What the model is, if `jeat train` did not write it.
        data_dir: Where the data sets are: for `data` starts, and for the class statistics of
            somebody else's model.
        device: Where to compute.
        reporter: Hears what was read.
        settings: `objective`, `init`, `steps`, `step_size`, `stop`, and the sampler's own; see
            `Descent`. None is the default of the model's method (`defaults`).

    Raises:
        JeatError: If the run or a setting is at fault.
    """
    if strange := settings.keys() - set(SETTINGS):
        raise TypeError(f"no such settings: {', '.join(sorted(strange))}")
    best_of = 1 if best_of is None else best_of
    if best_of < 1:
        raise UsageProblem(f"best_of must be at least 1, not {best_of}")
    edit.check(settings, classes)
    (model,) = load_each([run], device=device, foreign=foreign, reporter=reporter)
    descent = defaults(model, sampler).with_settings(settings)
    start = initializers.prepare(
        "uniform" if edit.image else descent.init, model, data_dir, reporter
    )
    # Every process as the first does, for `auto` measures.
    dtype = current().from_main(lambda: devices.autocast_type(precision or "fp32", model.device))
    recipe = Recipe(
        model,
        descent,
        start,
        seed,
        best_of,
        quick=accelerate(model.classifier, dtype, bool(compiled)),
    )
    selection: dict[str, Any] = {"best_of": best_of} if best_of > 1 else {}
    if edit.between:
        between = Interpolation.of(recipe, edit.between, 8 if num is None else num)
        recipe, labels = between, between.labels()
        # Of a way image k is another one if the way has more images.
        selection["interpolate_images"] = between.num
    else:
        chosen = _chosen(classes, model.meta.classes)
        labels = _labels(chosen, num, one_each=edit != NO_EDIT)
        recipe = edit.apply(recipe)
        if chosen != list(range(len(model.meta.classes))):
            selection["classes"] = [model.meta.classes[k] for k in chosen]
        alike = best_of > 1 or len(set(labels.tolist())) < len(labels)
        if edit.image and not descent.random and alike:
            reporter.warn("from one picture without noise, all images of a class are the same")
    about = {
        "precision": devices.precision_name(dtype),
        "seed": seed,
        "run": model.name,
        "n": len(labels),
    }
    return Drawing(recipe, labels, descent.describe() | selection | edit.describe() | about)


def defaults(model: Model, sampler: str | None = None) -> Descent:
    """Return how images are drawn from a model if nothing else is said.

    From class Gaussians, by the sampler and on the objective of the method: SGLD as its chains
    were run, or the PGD of Santurkar et al. (2019), whose radius 30 and step 0.5 are for
    3 x 32 x 32 pixels and scale with the root of their number. So does the step 0.2 of the 33
    along the gradient alone (Yin et al. 2026).
    """
    options = model.meta.options
    suited, objective = sampling_of(model.meta.method)
    sampler = sampler or suited
    if sampler != suited:
        objective = "ce" if sampler == "pgd" else "joint"
    scale = (torch.Size(model.meta.shape).numel() / 3072) ** 0.5
    if sampler == "pgd":
        return Descent("pgd", objective, "gaussian", 60, 0.5 * scale, 0.0, 0.0, 30 * scale)
    if sampler == "ascent":
        return Descent("ascent", objective, "gaussian", 33, 0.2 * scale, 0.0, 0.0, 0.0)
    return Descent(
        sampler,
        objective,
        "gaussian",
        100,
        options.get("sgld_step_size", 0.25),
        options.get("sgld_noise", 0.005),
        options.get("sgld_clip", 1.0),
        0.0,
    )


def draw(
    model: Model,
    labels: Tensor,
    descent: Descent,
    seed: int,
    batch_size: int = 256,
    reporter: Reporter = SILENT,
) -> Tensor:
    """Draw one image for each label (n,); return them (n, C, H, W) on the model's device."""
    start = initializers.prepare(descent.init, model)
    recipe = Recipe(model, descent, start, seed, quick=accelerate(model.classifier))
    drawing = Drawing(recipe, labels.cpu(), {})
    return torch.cat([images for _, images in drawing.batches(batch_size, reporter)])


def _chosen(classes: Sequence[str | int], known: tuple[str, ...]) -> list[int]:
    """Return the indices of the classes that are drawn in turn."""
    chosen: list[int] = []
    for each in classes or ("all",):
        chosen += range(len(known)) if each == "all" else [class_index(each, known)]
    return chosen


def _labels(chosen: Sequence[int], num: int | None, one_each: bool) -> Tensor:
    if num is None:
        many = 8 * len(chosen) if 1 < len(chosen) <= 20 else 64
        num = len(chosen) if one_each else many
    if num < 1:
        raise UsageProblem(f"the number of images must be at least 1, not {num}")
    return torch.tensor([chosen[k % len(chosen)] for k in range(num)])
