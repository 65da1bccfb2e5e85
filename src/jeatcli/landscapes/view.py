"""What the kinds of landscape share: the runs and images that they look at, and their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.model import FOREIGN, Model
from ..checkpoints.naming import shortened, told_apart
from ..core import energy, objectives, pgd
from ..core.rng import ImageRng, mix
from ..core.threat import NORMS, Threat
from ..data.facts import dataset_facts
from ..data.images import Images, to_unit_range
from ..errors import JeatError, UsageProblem, unknown
from ..runtime.progress import Reporter

ENERGIES = ("joint", "marginal", "ce")
SYMBOLS = {"joint": "E(x,y)", "marginal": "E(x)", "ce": "CE(x,y)"}
_FOLDER_EPS = {"linf": 8 / 255, "l2": 0.5}


@dataclass(frozen=True)
class Scene:
    """What a view looks at.

    Args:
        models: One a run, all of one data set.
        images: The data set's test images.
        seed: Of everything random.
        batch_size: Images in one pass.
        data_dir: Where further data sets lie.
        reporter: Listens to the progress.
    """

    models: tuple[Model, ...]
    images: Images
    seed: int
    batch_size: int
    data_dir: Any
    reporter: Reporter

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.models[0].device

    @property
    def eps(self) -> Mapping[str, float]:
        """The data set's customary radius by norm, in the [0, 1] pixel scale."""
        facts = dataset_facts(self.images.name)
        return facts.eps if facts else _FOLDER_EPS

    def threat(self, norm: str, eps: float | None) -> Threat:
        """Return the threat model that is asked for; the radius is the customary one without."""
        return Threat(norm, self.eps[norm] if eps is None else eps)

    def first(self, num: int) -> tuple[Tensor, Tensor]:
        """Return the first `num` test images (n,C,H,W) in [0, 1] and their labels (n,).

        Raises:
            UsageProblem: If there are not as many.
        """
        if not 1 <= num <= len(self.images):
            raise UsageProblem(
                f"there are {len(self.images):,} test images in {self.images.name}, not {num:,}",
                f"choose `-n` from 1 to {len(self.images):,}",
            )
        part = self.images.first(num).to(self.device)
        return to_unit_range(part.x), part.y

    def image(self, index: int) -> tuple[Tensor, int]:
        """Return test image `index`, (C,H,W) in [0, 1], and its label.

        Raises:
            UsageProblem: If there is none.
        """
        if not 0 <= index < len(self.images):
            raise UsageProblem(
                f"there is no test image {index} in {self.images.name}",
                f"its test images are numbered 0 to {len(self.images) - 1}",
            )
        x, y = self.images.x[index], int(self.images.y[index])
        return to_unit_range(x).to(self.device), y


class Findings(ABC):
    """What a view found, as numbers."""

    title: str

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return what the picture shows as numbers, ready for JSON; `runs` has a dict a run."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the numbers behind the picture, by name."""


@dataclass(frozen=True)
class View(ABC):
    """A kind of landscape: the fields are its options."""

    @abstractmethod
    def measure(self, scene: Scene) -> Findings:
        """Look at the scene.

        Raises:
            UsageProblem: If a setting does not fit the data set.
            JeatError: If an energy is not finite.
        """


def identify(model: Model) -> dict[str, str]:
    """Return how a run is named in a summary."""
    return {"run": str(model.path), "name": model.name, "method": model.meta.method}


def labels_of(models: Sequence[Model], longest: int = 24) -> list[str]:
    """Return what to call the runs in a picture: the method, or the name where methods repeat.

    Checkpoints of others, whose method nobody knows, go by their names.
    """
    methods = [FOREIGN, *(model.meta.method for model in models)]
    names = told_apart([model.name for model in models], [model.path for model in models])
    chosen = [
        model.meta.method if methods.count(model.meta.method) == 1 else name
        for model, name in zip(models, names, strict=True)
    ]
    return shortened(chosen, longest)


def energy_of(name: str, logits: Tensor, y: Tensor) -> Tensor:
    """Return E(x,y), E(x) or CE(x,y), shape (n,), of logits (n,K)."""
    if name == "marginal":
        return energy.marginal(logits)
    return energy.joint(logits, y) if name == "joint" else energy.cross_entropy(logits, y)


def rng_of(index: Tensor, seed: int, *purpose: int) -> ImageRng:
    """Return a source of randomness of each image's own."""
    return ImageRng([mix(seed, *purpose, k) for k in index.tolist()])


def attacked(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    rng: ImageRng,
    *,
    objective: str = "ce",
    target: Tensor | None = None,
    steps: int = 20,
) -> Tensor:
    """Return PGD's examples of images (n,C,H,W): a random start, steps of 2.5 eps / steps."""
    ball = pgd.ball(threat)
    return pgd.ascend(
        objectives.objective(objective, model.classifier, x, y, target),
        x,
        ball,
        steps=steps,
        step_size=2.5 * threat.eps / steps,
        start=ball.start(x, rng),
        keep_best=True,
    )


def finite(
    model: Model, values: NDArray[Any], what: str, or_else: str | None = None
) -> NDArray[Any]:
    """Return `values`; `or_else` is what else may be the cause than a run that diverged.

    Raises:
        JeatError: If one of them is not finite.
    """
    if not np.isfinite(values).all():
        raise JeatError(
            f"the energies of `{model.path}` are not finite {what}",
            "the run may have diverged" + (f", or {or_else}" if or_else else ""),
        )
    return values


def positive(**values: float) -> None:
    """Refuse what is not a finite number above 0.

    Raises:
        UsageProblem: Naming the setting.
    """
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise UsageProblem(
                f"the {name.replace('_', ' ')} must be a number above 0, not {value:g}"
            )


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        UsageProblem: With the nearest one.
    """
    if value not in known:
        raise unknown(name, value, known)


def check_norm(norm: str) -> None:
    """Refuse a norm that is not known."""
    one_of("norm", norm, NORMS)
