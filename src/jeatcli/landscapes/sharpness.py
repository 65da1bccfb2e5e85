"""Numbers over many images: how far and how steeply the energy rises around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.model import Model
from ..core.threat import Threat
from ..errors import UsageProblem
from ..runtime.progress import Bar
from .probe import Probe
from .view import Findings, Scene, View, check_norm, finite, identify, positive

# Of the bootstrap (Efron 1979): resamples, and the two ends of the interval.
_RESAMPLES, _ENDS = 2000, (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A mean over images and its bootstrap interval of 95 %."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Sharpness(Findings):
    """What was measured of each run's energy around each image.

    Args:
        models: The runs.
        view: The settings.
        unit: Per-pixel RMS of a perturbation of radius 1, in the [0, 1] pixel scale.
        threat: The ball of the worst rise.
        values: By measure, (runs, images); `rise` and `variance` at radius 1.
        rises: Mean rise of E(x,y) over the directions, (runs, radii, images).
        seed: Of the bootstrap.
    """

    models: tuple[Model, ...]
    view: SharpnessView
    unit: float
    threat: Threat
    values: dict[str, NDArray[np.float64]]
    rises: NDArray[np.float64]
    seed: int
    title = "Sharpness of the energy"

    def interval(self, values: NDArray[np.float64]) -> Interval:
        """Return the mean of `values` (images,) and its interval, the same images for every run."""
        generator = np.random.default_rng(self.seed)
        drawn = generator.integers(len(values), size=(_RESAMPLES, len(values)))
        low, high = np.percentile(values[drawn].mean(1), _ENDS)
        return Interval(float(values.mean()), float(low), float(high))

    def summary(self) -> dict[str, Any]:
        """Return the settings, and for each run its measures as mean, low and high.

        `rises` has the mean rise at each radius.
        """
        return {
            "n": self.view.num,
            "unit": self.unit,
            "radii": list(self.view.radius),
            "directions": self.view.directions,
            "norm": self.threat.norm,
            "eps": self.threat.eps,
            "interval": 0.95,
            "runs": [self._figures(index) for index in range(len(self.models))],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return each measure (runs,images), `rises` (runs,radii,images) and `radii`."""
        return {**self.values, "rises": self.rises, "radii": np.array(self.view.radius)}

    def _figures(self, run: int) -> dict[str, Any]:
        measures = {name: vars(self.interval(each[run])) for name, each in self.values.items()}
        rises = [vars(self.interval(each)) for each in self.rises[run]]
        return identify(self.models[run]) | measures | {"rises": rises}


@dataclass(frozen=True)
class SharpnessView(View):
    """Rises of E(x,y) in random directions and in the worst one, gradients and curvatures.

    Args:
        num: How many test images, the first ones.
        radius: Lengths of random perturbations, in units.
        directions: Random directions an image.
        unit: Per-pixel RMS of a radius of 1, in the [0, 1] pixel scale; the customary linf eps
            without.
        norm, eps: The ball in which the worst rise is sought, by PGD on E(x,y).
    """

    num: int = 200
    radius: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    directions: int = 8
    unit: float | None = None
    norm: str = "linf"
    eps: float | None = None

    def __post_init__(self) -> None:
        check_norm(self.norm)
        sizes = {"unit": self.unit, "eps": self.eps}
        positive(**{name: size for name, size in sizes.items() if size is not None})
        for each in self.radius:
            positive(radius=each)
        if self.directions < 2:
            raise UsageProblem(f"at least 2 directions are needed, not {self.directions}")
        object.__setattr__(self, "radius", tuple(sorted({1.0, *self.radius})))

    def measure(self, scene: Scene) -> Sharpness:
        unit = self.unit or scene.eps["linf"]
        threat = scene.threat(self.norm, self.eps)
        x, y = scene.first(self.num)
        found = []
        with scene.reporter.track("sharpness", len(scene.models) * len(x)) as bar:
            for model in scene.models:
                probe = Probe(model, self.radius, self.directions, unit, threat, scene.seed)
                found.append(_in_batches(probe, x, y, scene.batch_size, bar))
        columns = {name: np.stack([each[name] for each in found]) for name in found[0]}
        for model, *row in zip(scene.models, *columns.values(), strict=True):
            finite(model, np.concatenate([np.ravel(each) for each in row]), "around the images")
        rises = columns.pop("rises")
        return Sharpness(scene.models, self, unit, threat, columns, rises, scene.seed)


def _in_batches(
    probe: Probe, x: Tensor, y: Tensor, batch_size: int, bar: Bar
) -> dict[str, NDArray[np.float64]]:
    """Measure all the images; an image a column."""
    parts = []
    for index in torch.split(torch.arange(len(x)), batch_size):
        place = index.to(x.device)
        parts.append(probe(x[place], y[place], index))
        bar(len(index))
    joined = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    return {name: each.double().numpy().T for name, each in joined.items()}
