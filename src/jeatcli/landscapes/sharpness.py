"""Numbers over many images: how far and how steeply the energy rises around them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.model import Model
from ..core import energy, pgd
from ..core.rng import ImageRng
from ..core.threat import Threat
from ..errors import UsageProblem
from . import view
from .curvature import top_eigenvalue
from .settings import USUAL, SharpnessSettings
from .view import LandscapeInputs, RunInfo

# Of the bootstrap (Efron 1979): resamples, and the two ends of the interval.
_RESAMPLES, _ENDS = 2000, (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A mean over images and its bootstrap interval of 95 %."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class SharpnessResult:
    """What was measured of each run's energy around each image."""

    runs: tuple[RunInfo, ...]
    settings: SharpnessSettings
    unit: float  # per-pixel RMS of a perturbation of radius 1, in the [0, 1] pixel scale
    threat: Threat  # the ball of the worst rise
    # By measure, (runs, images); `rise` and `variance` at radius 1.
    values: dict[str, NDArray[np.float64]]
    rises: NDArray[np.float64]  # mean over the directions, (runs, radii, images)
    title = "Sharpness of the energy"

    def interval(self, values: NDArray[np.float64]) -> Interval:
        """Return the mean of `values` (images,) and its interval, the same images for every run."""
        generator = np.random.default_rng(self.settings.seed)
        resampled = generator.integers(len(values), size=(_RESAMPLES, len(values)))
        low, high = np.percentile(values[resampled].mean(1), _ENDS)
        return Interval(float(values.mean()), float(low), float(high))

    def summary(self) -> dict[str, Any]:
        """Return the settings, and for each run its measures as mean, low and high.

        `rises` has the mean rise at each radius.
        """
        return {
            "n": self.rises.shape[-1],
            "unit": self.unit,
            "radii": list(self.settings.radius),
            "directions": self.settings.directions,
            "norm": self.threat.norm,
            "eps": self.threat.eps,
            "interval": 0.95,
            "results": [self._summary(k, run) for k, run in enumerate(self.runs)],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return each measure (runs,images), `rises` (runs,radii,images) and `radii`."""
        return {**self.values, "rises": self.rises, "radii": np.array(self.settings.radius)}

    def _summary(self, k: int, run: RunInfo) -> dict[str, Any]:
        measures = {name: vars(self.interval(rows[k])) for name, rows in self.values.items()}
        rises = [vars(self.interval(row)) for row in self.rises[k]]
        return run.describe() | measures | {"rises": rises}


def measure_sharpness(inputs: LandscapeInputs, settings: SharpnessSettings) -> SharpnessResult:
    """Measure rises, gradients and curvatures around the first test images, for each run."""
    unit = settings.unit or inputs.eps["linf"]
    threat = inputs.threat(settings.norm, settings.eps)
    x, y = inputs.first(settings.num, usual=USUAL)
    if len(x) < 2:
        raise UsageProblem("an interval over images needs at least 2", "choose a larger `-n`")
    runs = view.describe_models(inputs.models)
    measured: list[dict[str, NDArray[np.float64]]] = []
    with inputs.reporter.track("sharpness", len(inputs.models) * len(x)) as bar:
        for model, run in zip(inputs.models, runs, strict=True):
            parts = []
            for index in torch.split(torch.arange(len(x)), view.at_once(settings, x)):
                part = index.to(x.device)
                parts.append(_measure(model, x[part], y[part], index, unit, threat, settings))
                bar(len(index))
            rows = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
            measured.append({name: row.double().numpy().T for name, row in rows.items()})
            numbers = [np.ravel(row) for row in measured[-1].values()]
            view.require_finite(run, np.concatenate(numbers), "around the images")
    values = {name: np.stack([rows[name] for rows in measured]) for name in measured[0]}
    rises = values.pop("rises")
    return SharpnessResult(runs, settings, unit, threat, values, rises)


def _measure(
    model: Model,
    x: Tensor,
    y: Tensor,
    index: Tensor,
    unit: float,
    threat: Threat,
    settings: SharpnessSettings,
) -> dict[str, Tensor]:
    """Return the measures (n,) and `rises` (n,radii) of images (n,C,H,W) in [0, 1]."""

    def joint(images: Tensor) -> Tensor:
        return energy.joint(model.classifier(images), y)

    def rng(purpose: int) -> ImageRng:
        return view.image_rng(index, settings.seed, purpose)

    with torch.no_grad():
        logits = model.classifier(x)
    here = energy.joint(logits, y)
    rises, variances = _random_rises(joint, x, here, unit, settings, rng(1))
    worst = view.attack(model, x, y, threat, rng(2), objective="joint")
    moving = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(joint(moving).sum(), moving)
    at_one = settings.radius.index(1.0)
    return {
        "energy": here,
        "marginal": energy.marginal(logits),
        "rise": rises[:, at_one],
        "variance": variances[:, at_one],
        "worst": (joint(worst) - here).detach(),
        "gradient": pgd.l2_norm(gradient).flatten(),
        "curvature": top_eigenvalue(joint, x, rng(3)),
        "rises": rises,
    }


def _random_rises(
    joint: Callable[[Tensor], Tensor],
    x: Tensor,
    here: Tensor,
    unit: float,
    settings: SharpnessSettings,
    rng: ImageRng,
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the rise over random directions, (n,radii) each."""
    length = unit * x[0].numel() ** 0.5
    rises = []
    with torch.no_grad():
        for _ in range(settings.directions):
            direction = pgd.normalize_l2(rng.normal(x)) * length
            along = [joint(x + radius * direction) - here for radius in settings.radius]
            rises.append(torch.stack(along, dim=1))
    stacked = torch.stack(rises)
    return stacked.mean(0), stacked.var(0)
