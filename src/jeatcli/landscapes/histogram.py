"""Histograms of E(x) and E(x,y): real, adversarial, noisy and sampled images, and noise."""

from __future__ import annotations

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
from ..core.rng import mix
from ..core.threat import Threat
from ..data.images import load_images, to_unit_range
from ..errors import UsageProblem
from ..robustness.batch_size import USUAL
from ..runtime.progress import Bar
from ..sampling import initializers, sample
from .view import Findings, Scene, View, attacked, check_norm, finite, identify, positive, rng_of

SETS = ("test", "adversarial", "targeted", "noisy", "noise", "samples", "against")
QUANTITIES = ("marginal", "joint")
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Histograms(Findings):
    """The energies of sets of images under several runs.

    Args:
        models: The runs.
        view: The settings.
        threat: The ball of the adversarial and the noisy images.
        values: By set, (runs, quantities, images); the quantities are `QUANTITIES`.
    """

    models: tuple[Model, ...]
    view: Histogram
    threat: Threat
    values: dict[str, NDArray[np.float32]]
    title = "Histograms of the energy"

    def summary(self) -> dict[str, Any]:
        """Return the settings, and for each run and set the mean and quantiles of both energies.

        `marginal_auroc` is the chance that a test image has a lower E(x) than one of the set.
        """
        runs = []
        for index, model in enumerate(self.models):
            sets = {name: self._figures(name, index) for name in self.values}
            runs.append(identify(model) | {"sets": sets})
        return {
            "n": self.view.num,
            "norm": self.threat.norm,
            "eps": self.threat.eps,
            "against": self.view.against,
            "quantiles": list(_QUANTILES),
            "runs": runs,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return a set's energies (runs,quantities,images) by its name."""
        return {**self.values, "quantities": np.array(QUANTITIES)}

    def label(self, name: str) -> str:
        """Return what a set is called in the picture."""
        return str(self.view.against) if name == "against" else name

    def _figures(self, name: str, run: int) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for quantity, values in zip(QUANTITIES, self.values[name][run], strict=True):
            figures[quantity] = {
                "mean": float(values.mean()),
                "quantiles": np.quantile(values, _QUANTILES).tolist(),
            }
        test = self.values["test"][run, 0]
        other = self.values[name][run, 0]
        higher = mannwhitneyu(other, test, method="asymptotic").statistic
        lower = float(higher / (len(test) * len(other)))
        return {"n": len(other), **figures, "marginal_auroc": lower}


@dataclass(frozen=True)
class Histogram(View):
    """E(x) and E(x,y) of the first test images and of what can be made of them.

    The sets are the test images; PGD-20's examples on CE, untargeted and aimed at a random other
    class; the images with noise of the ball's size (random signs, or a random direction in l2);
    uniform noise; samples as `jeat sample` draws them; and another data set. y is the image's
    label, the class that a sample was drawn for, and otherwise the predicted class.

    Args:
        num: Images a set.
        norm, eps: The ball.
        against: Another data set, resized by nothing: its images must have the same shape.
    """

    num: int = 200
    norm: str = "linf"
    eps: float | None = None
    against: str | None = None

    def __post_init__(self) -> None:
        check_norm(self.norm)
        if self.eps is not None:
            positive(eps=self.eps)

    def measure(self, scene: Scene) -> Histograms:
        threat = scene.threat(self.norm, self.eps)
        x, y = scene.first(self.num)
        other = self._other(scene)
        sets = [name for name in SETS if name != "against" or other is not None]
        values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in sets}
        with scene.reporter.track("energies", len(scene.models) * len(sets) * len(x)) as bar:
            for model in scene.models:
                artist = initializers.with_statistics(model, scene.data_dir, scene.reporter)
                source = Source(artist, x, y, threat, other, scene.seed, scene.batch_size)
                for name in sets:
                    found = _energies(model, getattr(source, name), len(x), scene.batch_size, bar)
                    values[name].append(finite(model, found, f"on the set `{name}`"))
        return Histograms(
            scene.models, self, threat, {name: np.stack(each) for name, each in values.items()}
        )

    def _other(self, scene: Scene) -> Tensor | None:
        """Return the first images of the other data set, in [0, 1]."""
        if self.against is None:
            return None
        images = load_images(self.against, "test", data_dir=scene.data_dir, reporter=scene.reporter)
        if images.shape != scene.images.shape:
            raise UsageProblem(
                f"the images of {self.against} have the shape {images.shape}, those of "
                f"{scene.images.name} {scene.images.shape}",
                "choose a data set of the same shape",
            )
        return to_unit_range(images.first(min(self.num, len(images))).x).to(scene.device)


@dataclass(frozen=True)
class Source:
    """Makes the sets for one run: images, and labels or None, of the places `index`."""

    model: Model
    x: Tensor
    y: Tensor
    threat: Threat
    other: Tensor | None
    seed: int
    batch_size: int

    def test(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the images themselves."""
        return self.x[index], self.y[index]

    def adversarial(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return PGD's examples."""
        x, y = self.x[index], self.y[index]
        rng = rng_of(index, self.seed, 1)
        return attacked(self.model, x, y, self.threat, rng), y

    def targeted(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return PGD's examples, each aimed at another class at random."""
        x, y = self.x[index], self.y[index]
        classes = len(self.model.meta.classes)
        shifts = [1 + mix(self.seed, 2, k) % (classes - 1) for k in index.tolist()]
        aim = (y + torch.tensor(shifts, device=y.device)) % classes
        rng = rng_of(index, self.seed, 2)
        return attacked(self.model, x, y, self.threat, rng, target=aim), y

    def noisy(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the images with noise on the surface of the ball, clipped to [0, 1]."""
        x = self.x[index]
        step = pgd.ball(self.threat).step(rng_of(index, self.seed, 3).normal(x), self.threat.eps)
        return (x + step).clamp(0, 1), self.y[index]

    def noise(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return uniform noise."""
        return rng_of(index, self.seed, 4).uniform(self.x[index]), None

    @cached_property
    def drawn(self) -> Tensor:
        """Samples of the run, drawn for the images' classes."""
        size = min(self.batch_size, USUAL)
        return sample.draw(self.model, self.y.cpu(), self.seed, size)

    def samples(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return samples of the run."""
        return self.drawn[index], self.y[index]

    def against(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return images of the other data set, as many as there are."""
        assert self.other is not None
        return self.other[index[index < len(self.other)]], None


def _energies(
    model: Model,
    source: Callable[[Tensor], tuple[Tensor, Tensor | None]],
    count: int,
    batch_size: int,
    bar: Bar,
) -> NDArray[np.float32]:
    """Return E(x) and E(x,y) of a set, (2,n); y is the predicted class where there is none."""
    rows = []
    for index in torch.split(torch.arange(count), batch_size):
        images, labels = source(index.to(model.device))
        with torch.inference_mode():
            logits = model.classifier(images)
        y = logits.argmax(1) if labels is None else labels
        rows.append(torch.stack([energy.marginal(logits), energy.joint(logits, y)]).cpu())
        bar(len(index))
    found: NDArray[np.float32] = torch.cat(rows, dim=1).numpy()
    return found
