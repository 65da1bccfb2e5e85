"""Drawing images: descent on an energy, from noise to a class."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import data, pgd
from .checkpoint import Model, load_each
from .errors import UsageProblem, unknown
from .evaluate import class_index
from .foreign import Foreign
from .randomness import ImageRng, mix
from .reporting import SILENT, Reporter
from .sgld import ClassStatistics, langevin, uniform_start

SAMPLERS = ("sgld", "pgd")
STARTS = ("uniform", "gaussian")
OBJECTIVES = ("joint", "ce", "marginal")


@dataclass(frozen=True)
class Descent:
    """How images are drawn.

    Args:
        sampler: `sgld`, Langevin dynamics, or `pgd`, targeted PGD in an l2 ball around the start
            that keeps each image's best iterate (Santurkar et al. 2019).
        objective: What is lowered: `joint` E(x, y), `ce`, or `marginal` E(x).
        init: `uniform` noise, or the `gaussian` of the class's training images.
        steps: Gradient steps.
        step_size: Factor of the gradient (sgld) or l2 length of a step (pgd), pixels in [0, 1].
        noise: Standard deviation of the noise of an sgld step.
        clip: Largest absolute component of the gradient of sgld; 0 for no limit.
        eps: l2 radius of pgd.
    """

    sampler: str
    objective: str
    init: str
    steps: int
    step_size: float
    noise: float
    clip: float
    eps: float

    def __post_init__(self) -> None:
        choices = {"sampler": SAMPLERS, "objective": OBJECTIVES, "init": STARTS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        for name in ("steps", "step_size", "noise", "eps"):
            if not getattr(self, name) >= 0:
                raise UsageProblem(f"{name} must be at least 0, not {getattr(self, name)}")


@dataclass(frozen=True)
class Samples:
    """Drawn images.

    Args:
        images: (n, C, H, W) in [0, 1], float32, on the CPU.
        labels: Their classes (n,).
        classes: Names of the classes of the model.
        settings: Every setting that went into them.
        seconds, device: Of the computation.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    settings: dict[str, Any]
    seconds: float
    device: str


def sample(
    run: str | Path | Model | None = None,
    *,
    num: int | None = None,
    classes: Sequence[str | int] = ("all",),
    sampler: str | None = None,
    objective: str | None = None,
    init: str | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    noise: float | None = None,
    eps: float | None = None,
    seed: int = 0,
    foreign: Foreign | None = None,
    data_dir: str | Path | None = None,
    batch_size: int = 256,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Samples:
    """Draw images from a checkpoint alone; image k depends on the seed and k only.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        num: How many; by default eight of each class, or 64 of one or of many.
        classes: Names or indices, taken in turn; `all` stands for every class.
        sampler, objective, init, steps, step_size, noise, eps: See `Descent`; None is the
            default of the model's method (`defaults`).
        seed: Of everything random.
        foreign: What the model is, if `jeat train` did not write it.
        data_dir: Where the data sets are: only such a model needs the training images, for
            `gaussian` starts, since its checkpoint has no class statistics.
        batch_size: Images at a time.
        device: Where to compute.
        reporter: Listens to the progress.

    Raises:
        JeatError: If the run or a setting is at fault.
    """
    began = time.perf_counter()
    (model,) = load_each([run], device=device, foreign=foreign, reporter=reporter)
    chosen = {
        "objective": objective,
        "init": init,
        "steps": steps,
        "step_size": step_size,
        "noise": noise,
        "eps": eps,
    }
    said = {key: value for key, value in chosen.items() if value is not None}
    descent = Descent(**{**vars(defaults(model, sampler)), **said})
    labels = _labels(classes, model.meta.classes, num)
    if descent.init == "gaussian":
        model = with_statistics(model, data_dir, reporter)
    images = draw(model, labels, descent, seed, batch_size, reporter)
    return Samples(
        images.cpu(),
        labels,
        model.meta.classes,
        {**vars(descent), "seed": seed, "run": model.name, "n": len(labels)},
        time.perf_counter() - began,
        str(model.device),
    )


def defaults(model: Model, sampler: str | None = None) -> Descent:
    """Return how images are drawn from a model if nothing else is said.

    Methods with chains are sampled as they were trained, by SGLD from where their chains start;
    the others
    by the PGD of Santurkar et al. (2019) from class Gaussians, whose radius 30 and step 0.5 are
    for 3 x 32 x 32 pixels and scale with the root of their number.
    """
    options = model.meta.options
    chained = "sgld_steps" in options
    sampler = sampler or ("sgld" if chained else "pgd")
    scale = (torch.Size(model.meta.shape).numel() / 3072) ** 0.5
    if sampler == "pgd":
        return Descent("pgd", "ce", "gaussian", 60, 0.5 * scale, 0.0, 0.0, 30 * scale)
    return Descent(
        sampler,
        "joint",
        options.get("chain_start", "uniform"),
        100,
        options.get("sgld_step_size", 0.25),
        options.get("sgld_noise", 0.005),
        options.get("sgld_clip", 1.0),
        0.0,
    )


def with_statistics(
    model: Model, data_dir: str | Path | None = None, reporter: Reporter = SILENT
) -> Model:
    """Return the model with class statistics: its own, or else measured on its training images.

    Raises:
        JeatError: If the images cannot be had.
    """
    if model.statistics is not None:
        return model
    reporter.say(f"`{model.name}` has no class statistics: measuring those of {model.meta.dataset}")
    images = data.load(model.meta.dataset, "train", data_dir=data_dir, reporter=reporter)
    measured = ClassStatistics.measure(images.x, images.y, len(images.classes))
    return replace(model, statistics=measured.to(model.device))


def draw(
    model: Model,
    labels: Tensor,
    descent: Descent,
    seed: int,
    batch_size: int = 256,
    reporter: Reporter = SILENT,
) -> Tensor:
    """Draw one image for each label (n,); return them (n, C, H, W) on the model's device.

    A model without class statistics cannot start from them: see `with_statistics`.
    """
    parts = []
    with reporter.track("sample", len(labels)) as bar:
        for index in torch.split(torch.arange(len(labels)), batch_size):
            rng = ImageRng([mix(seed, k) for k in index.tolist()])
            parts.append(_descend(model, labels[index].to(model.device), descent, rng))
            bar(len(index))
    return torch.cat(parts)


def _descend(model: Model, y: Tensor, descent: Descent, rng: ImageRng) -> Tensor:
    like = torch.empty(len(y), *model.meta.shape, device=model.device)
    if descent.init == "uniform":
        start = uniform_start(like, rng)
    else:
        assert model.statistics is not None
        start = model.statistics.draw(y, like, rng)
    value = pgd.objective(descent.objective, model.classifier, start, y, target=y)
    if descent.sampler == "pgd":
        return pgd.ascend(
            value,
            start,
            pgd.L2(descent.eps),
            steps=descent.steps,
            step_size=descent.step_size,
            keep_best=True,
        )
    return langevin(
        lambda x: -value(x),
        start,
        steps=descent.steps,
        step_size=descent.step_size,
        noise=descent.noise,
        rng=rng,
        clip_gradient=descent.clip or None,
    )


def _labels(classes: Sequence[str | int], known: tuple[str, ...], num: int | None) -> Tensor:
    chosen: list[int] = []
    for each in classes or ("all",):
        chosen += range(len(known)) if each == "all" else [class_index(each, known)]
    if num is None:
        num = 8 * len(chosen) if 1 < len(chosen) <= 20 else 64
    if num < 1:
        raise UsageProblem(f"the number of images must be at least 1, not {num}")
    return torch.tensor([chosen[k % len(chosen)] for k in range(num)])
