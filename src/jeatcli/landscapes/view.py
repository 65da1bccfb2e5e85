"""What the kinds of landscape share: models, images, names of runs, attacks and results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.header import FOREIGN
from ..checkpoints.model import Model
from ..checkpoints.runs import distinct_names, shortened
from ..core import energy, objectives, pgd
from ..core.rng import ImageRng, mix
from ..core.threat import Threat
from ..data.facts import customary_eps
from ..data.images import Images, to_unit_range
from ..errors import JeatError, UsageProblem
from ..runtime.devices import images_at_once
from ..runtime.progress import Reporter
from .settings import LandscapeSettings

_LONGEST_LABEL = 24


@dataclass(frozen=True)
class RunInfo:
    """How a run is named: its name, its file, its method, its label in a picture, its epoch."""

    name: str
    path: str
    method: str
    label: str
    epoch: int | None = None

    def describe(self) -> dict[str, str | int | None]:
        """Return what a summary says of the run."""
        about = {"run": self.name, "path": self.path, "method": self.method}
        return about | {"epoch": self.epoch}


class Result(Protocol):
    """What a kind measured, as numbers."""

    title: str

    def summary(self) -> dict[str, Any]:
        """Return what the picture shows as numbers, ready for JSON; `results` has one a run."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the numbers behind the picture, by name."""


@dataclass(frozen=True)
class LandscapeInputs:
    """The models of the runs, all of one data set, and its test images."""

    models: tuple[Model, ...]
    images: Images
    reporter: Reporter

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.models[0].device

    @property
    def eps(self) -> Mapping[str, float]:
        """The customary radius of the runs' data set by norm, in the [0, 1] pixel scale."""
        # Not of `images`: a file of digits does not say what it holds.
        return customary_eps(self.models[0].meta.dataset)

    def threat(self, norm: str, eps: float | None) -> Threat:
        """Return the threat model, with the customary radius if `eps` is None."""
        return Threat(norm, self.eps[norm] if eps is None else eps)

    def first(self, num: int | None, usual: int = 1) -> tuple[Tensor, Tensor]:
        """Return the first `num` test images (n,C,H,W) in [0, 1] and their labels (n,).

        Without a number they are the `usual` number, or all if there are fewer.
        """
        num = min(usual, len(self.images)) if num is None else num
        part = self.images.first(num, self.reporter).to(self.device)
        return to_unit_range(part.x), part.y

    def image(self, index: int) -> tuple[Tensor, int]:
        """Return test image `index`, (C,H,W) in [0, 1], and its label."""
        if not 0 <= index < len(self.images):
            raise UsageProblem(
                f"there is no test image {index} in {self.images.name}",
                f"its test images are numbered 0 to {len(self.images) - 1}",
            )
        x, y = self.images.x[index], int(self.images.y[index])
        return to_unit_range(x).to(self.device), y


def at_once(settings: LandscapeSettings, images: Tensor) -> int:
    """Return how many of the images (..., H, W) to take at once."""
    return settings.batch_size or images_at_once(images.shape, images.device, 512)


def describe_models(models: Sequence[Model]) -> tuple[RunInfo, ...]:
    """Name the runs; the label is the method, or the name where methods repeat.

    Checkpoints that `jeat train` did not write, whose method is not known, go by their names.
    """
    methods = [FOREIGN, *(model.meta.method for model in models)]
    names = distinct_names([model.name for model in models], [model.path for model in models])
    labels = [
        model.meta.method if methods.count(model.meta.method) == 1 else name
        for model, name in zip(models, names, strict=True)
    ]
    return tuple(
        RunInfo(model.name, str(model.path), model.meta.method, label, model.epoch)
        for model, label in zip(models, shortened(labels, _LONGEST_LABEL), strict=True)
    )


def energy_of(name: str, logits: Tensor, y: Tensor) -> Tensor:
    """Return E(x,y), E(x) or CE(x,y), shape (n,), of logits (n,K)."""
    if name == "marginal":
        return energy.marginal(logits)
    return energy.joint(logits, y) if name == "joint" else energy.cross_entropy(logits, y)


def image_rng(index: Tensor, seed: int, *purpose: int) -> ImageRng:
    """Return a random generator for each image of `index` (n,)."""
    return ImageRng([mix(seed, *purpose, k) for k in index.tolist()])


def attack(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    rng: ImageRng,
    *,
    objective: str = "ce",
    target: Tensor | None = None,
) -> Tensor:
    """Return PGD-20's examples of images (n,C,H,W): a random start, steps of 2.5 eps / 20."""
    value = objectives.objective(objective, model.classifier, x, y, target)
    ball, size = pgd.ball(threat), 2.5 * threat.eps / 20
    start = ball.start(x, rng)
    return pgd.ascend(value, x, ball, steps=20, step_size=size, start=start, keep_best=True)


def require_finite(
    run: RunInfo, values: NDArray[Any], where: str, other_cause: str | None = None
) -> NDArray[Any]:
    """Return energies that are all finite, or raise a `JeatError` that names the run."""
    if not np.isfinite(values).all():
        raise JeatError(
            f"the energies of `{run.path}` are not finite {where}",
            "the run may have diverged" + (f", or {other_cause}" if other_cause else ""),
        )
    return values
