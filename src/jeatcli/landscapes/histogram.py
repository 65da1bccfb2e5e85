"""Histograms of E(x) and E(x,y): real, adversarial, noisy and sampled images, and noise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from torch import Tensor

from ..checkpoints.model import Model
from ..core import energy, pgd
from ..core.rng import ImageRng, mix
from ..core.threat import Threat
from ..data.images import load_images, to_unit_range, warn_of_shared
from ..runtime.progress import Bar
from ..sampling import sample
from . import view
from .settings import USUAL, HistogramSettings
from .view import LandscapeInputs, RunInfo

SETS = ("test", "adversarial", "targeted", "noisy", "noise", "samples", "against")
QUANTITIES = ("marginal", "joint")
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class HistogramResult:
    """The energies of sets of images under several runs."""

    runs: tuple[RunInfo, ...]
    settings: HistogramSettings
    threat: Threat  # the ball of the adversarial and the noisy images
    values: dict[str, NDArray[np.float32]]  # by set, (runs, `QUANTITIES`, images)
    title = "Histograms of the energy"

    def summary(self) -> dict[str, Any]:
        """Return the settings, and for each run and set the mean and quantiles of both energies.

        `marginal_auroc` is the chance that a test image has a lower E(x) than one of the set.
        """
        return {
            "n": self.values["test"].shape[-1],
            "norm": self.threat.norm,
            "eps": self.threat.eps,
            "against": self.settings.against,
            "quantiles": list(_QUANTILES),
            "results": [
                run.describe() | {"sets": {name: self._summary(name, k) for name in self.values}}
                for k, run in enumerate(self.runs)
            ],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return a set's energies (runs,quantities,images) by its name."""
        return {**self.values, "quantities": np.array(QUANTITIES)}

    def _summary(self, name: str, run: int) -> dict[str, Any]:
        test, values = self.values["test"][run, 0], self.values[name][run]
        higher = mannwhitneyu(values[0], test, method="asymptotic").statistic
        count = values.shape[1]
        energies = {
            quantity: {
                "mean": float(row.mean()),
                "quantiles": np.quantile(row, _QUANTILES).tolist(),
            }
            for quantity, row in zip(QUANTITIES, values, strict=True)
        }
        return {"n": count, **energies, "marginal_auroc": float(higher / (len(test) * count))}


def measure_histogram(inputs: LandscapeInputs, settings: HistogramSettings) -> HistogramResult:
    """Evaluate both energies of every set, for each run."""
    threat = inputs.threat(settings.norm, settings.eps)
    x, y = inputs.first(settings.num, usual=USUAL)
    other = _other(inputs, settings, x)
    names = [name for name in SETS if name != "against" or other is not None]
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    runs = view.describe_models(inputs.models)
    with inputs.reporter.track("energies", len(runs) * len(names) * len(x)) as bar:
        for model, run in zip(inputs.models, runs, strict=True):
            sets = Sets(model, x, y, threat, other, settings)
            for name in names:
                energies = _energies(
                    model, getattr(sets, name), len(x), view.at_once(settings, x), bar
                )
                values[name].append(view.require_finite(run, energies, f"on the set `{name}`"))
    stacked = {name: np.stack(rows) for name, rows in values.items()}
    return HistogramResult(runs, settings, threat, stacked)


def _other(inputs: LandscapeInputs, settings: HistogramSettings, x: Tensor) -> Tensor | None:
    """Return the first images of the other data set, in [0, 1]: as many as x, if there are."""
    name, data_dir = settings.against, settings.data_dir
    if name is None:
        return None
    images = load_images(name, "test", data_dir=data_dir, reporter=inputs.reporter)
    inputs.models[0].accepts(images, any_classes=True)
    images = images.first(min(len(x), len(images)), inputs.reporter)
    warn_of_shared(name, images.x, x, inputs.reporter)
    return to_unit_range(images.x).to(inputs.device)


Set = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Sets:
    """Makes the sets for one run: the images of `index`, and their labels or None."""

    model: Model
    x: Tensor
    y: Tensor
    threat: Threat
    other: Tensor | None
    settings: HistogramSettings

    def test(self, index: Tensor) -> Set:
        return self.x[index], self.y[index]

    def adversarial(self, index: Tensor) -> Set:
        x, y = self.x[index], self.y[index]
        return view.attack(self.model, x, y, self.threat, self._rng(index, 1)), y

    def targeted(self, index: Tensor) -> Set:
        """Return PGD's examples, each targeted at another class at random."""
        x, y = self.x[index], self.y[index]
        classes = len(self.model.meta.classes)
        shifts = [1 + mix(self.settings.seed, 2, k) % (classes - 1) for k in index.tolist()]
        target = (y + torch.tensor(shifts, device=y.device)) % classes
        return view.attack(self.model, x, y, self.threat, self._rng(index, 2), target=target), y

    def noisy(self, index: Tensor) -> Set:
        """Return the images with noise on the surface of the ball, clipped to [0, 1]."""
        x, ball, rng = self.x[index], pgd.ball(self.threat), self._rng(index, 3)
        if isinstance(ball, pgd.L1):  # a sparse step would be clipped to a part of the radius
            return ball.on_sphere(x, rng), self.y[index]
        return (x + ball.step(rng.normal(x), ball.eps)).clamp(0, 1), self.y[index]

    def noise(self, index: Tensor) -> Set:
        return self._rng(index, 4).uniform(self.x[index]), None

    def samples(self, index: Tensor) -> Set:
        return self._samples[index], self.y[index]

    def against(self, index: Tensor) -> Set:
        """Return images of the other data set, as many as there are."""
        assert self.other is not None
        return self.other[index[index < len(self.other)]], None

    @cached_property
    def _samples(self) -> Tensor:
        size = self.settings.batch_size or self.model.images_at_once()
        data_dir = self.settings.data_dir
        return sample.draw(self.model, self.y.cpu(), self.settings.seed, size, data_dir)

    def _rng(self, index: Tensor, purpose: int) -> ImageRng:
        return view.image_rng(index, self.settings.seed, purpose)


def _energies(
    model: Model, images_of: Callable[[Tensor], Set], count: int, batch_size: int, bar: Bar
) -> NDArray[np.float32]:
    """Return E(x) and E(x,y) of a set, (2,n); y is the predicted class where there is none."""
    rows = []
    for index in torch.split(torch.arange(count), batch_size):
        images, labels = images_of(index.to(model.device))
        with torch.inference_mode():
            logits = model.classifier(images)
        y = logits.argmax(1) if labels is None else labels
        rows.append(torch.stack([energy.marginal(logits), energy.joint(logits, y)]).cpu())
        bar(len(index))
    values: NDArray[np.float32] = torch.cat(rows, dim=1).numpy()
    return values
