"""The energies along an attack, past the edge of its ball, and along a chain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.model import Model
from ..core import energy, objectives, pgd
from ..core.rng import ImageRng
from ..core.sgld import langevin, trained_chain
from ..core.threat import NORMS, Threat
from ..runtime.progress import Bar
from . import view
from .settings import USUAL_PATHS, PathSettings
from .view import LandscapeInputs, RunInfo

PATHS = ("pgd", "sgld")
QUANTITIES = ("joint", "marginal", "ce", "correct")
QUANTILES = (0.1, 0.9)


@dataclass(frozen=True)
class PathResult:
    """What the runs' energies were along two paths."""

    runs: tuple[RunInfo, ...]
    settings: PathSettings
    threat: Threat  # the ball of the attack
    values: dict[str, NDArray[np.float32]]  # by path, (runs, `QUANTITIES`, steps + 1, images)
    predictions: dict[str, NDArray[np.int64]]  # by path, classes (runs, steps + 1, images)
    title = "Energies along two paths"

    def summary(self) -> dict[str, Any]:
        """Return the settings, and for each run the mean quantities where the paths begin and end.

        `pgd` has them at the `start`, at the ball's `edge` (after the attack's steps) and
        `beyond`; `sgld` at `start` and `end`.
        """
        settings = self.settings
        edge = settings.steps
        points = {
            "pgd": {"start": 0, "edge": edge, "beyond": edge + settings.beyond},
            "sgld": {"start": 0, "end": settings.chain},
        }
        return {
            "n": self.values["pgd"].shape[-1],
            "objective": settings.objective,
            "norm": self.threat.norm,
            "eps": self.threat.eps,
            "steps": settings.steps,
            "beyond": settings.beyond,
            "chain": settings.chain,
            "quantiles": list(QUANTILES),
            "results": [
                run.describe()
                | {
                    path: {name: self._means(path, k, step) for name, step in named.items()}
                    for path, named in points.items()
                }
                for k, run in enumerate(self.runs)
            ],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return `pgd` and `sgld` (runs,quantities,steps,images) and the predicted classes."""
        classes = {f"{path}_prediction": values for path, values in self.predictions.items()}
        return {**self.values, **classes, "quantities": np.array(QUANTITIES)}

    def _means(self, path: str, run: int, step: int) -> dict[str, float]:
        means = self.values[path][run, :, step].mean(1)
        return dict(zip(QUANTITIES, means.tolist(), strict=True))


def measure_path(inputs: LandscapeInputs, settings: PathSettings) -> PathResult:
    """Follow PGD and the chain from the first test images, for each run."""
    objectives.check_classes(settings.objective, len(inputs.images.classes))
    threat = inputs.threat(settings.norm, settings.eps)
    x, y = inputs.first(settings.num, usual=USUAL_PATHS)
    runs = view.describe_models(inputs.models)
    values: dict[str, NDArray[np.float32]] = {}
    predictions: dict[str, NDArray[np.int64]] = {}
    steps = {"pgd": settings.steps + settings.beyond, "sgld": settings.chain}
    for path in PATHS:
        with inputs.reporter.track(path, len(runs) * len(x) * (steps[path] + 1)) as bar:
            results = [_follow(path, model, x, y, threat, settings, bar) for model in inputs.models]
        for run, (energies, _) in zip(runs, results, strict=True):
            view.require_finite(run, energies, f"along {path}")
        values[path] = np.stack([energies for energies, _ in results])
        predictions[path] = np.stack([classes for _, classes in results])
    return PathResult(runs, settings, threat, values, predictions)


def _follow(
    path: str, model: Model, x: Tensor, y: Tensor, threat: Threat, settings: PathSettings, bar: Bar
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the quantities (quantities,steps,n) and classes (steps,n) along one path."""
    parts = []
    for index in torch.split(torch.arange(len(x)), view.at_once(settings, x)):
        images, labels = x[index.to(x.device)], y[index.to(x.device)]
        recorder = Recorder(model, labels, bar)
        if path == "pgd":
            _attack(images, threat, settings, recorder)
        else:
            _descend(images, view.image_rng(index, settings.seed), settings.chain, recorder)
        parts.append(recorder.result())
    energies, classes = zip(*parts, strict=True)
    return np.concatenate(energies, axis=2), np.concatenate(classes, axis=1)


def _attack(x: Tensor, threat: Threat, settings: PathSettings, recorder: Recorder) -> None:
    """Record the images, PGD's iterates in the ball, and those that go on without it."""
    value = objectives.objective(settings.objective, recorder.model.classifier, x, recorder.y)
    size = 2.5 * threat.eps / settings.steps
    everywhere = NORMS.load(threat.norm)(math.inf)
    recorder.record(x)
    moved = x
    for ball, steps in ((pgd.ball(threat), settings.steps), (everywhere, settings.beyond)):
        moved = pgd.ascend(value, x, ball, steps=steps, step_size=size, start=moved, hook=recorder)


def _descend(x: Tensor, rng: ImageRng, steps: int, recorder: Recorder) -> None:
    """Record the states of the run's sampler, its start first."""
    chain = trained_chain(recorder.model.meta.options, steps)
    start = rng.uniform(x)
    recorder.record(start)

    def joint(images: Tensor) -> Tensor:
        return energy.joint(recorder.model.classifier(images), recorder.y)

    langevin(joint, start, chain, rng, recorder)


class Recorder:
    """A hook that keeps the quantities and the predicted classes of every state of a path."""

    def __init__(self, model: Model, y: Tensor, bar: Bar) -> None:
        self.model, self.y, self.bar = model, y, bar
        self.rows: list[Tensor] = []
        self.classes: list[Tensor] = []

    def __call__(self, step: int, x: Tensor, moved: Tensor, values: Tensor) -> Tensor:
        self.record(moved)
        return moved

    def record(self, state: Tensor) -> None:
        """Evaluate a state (n, C, H, W)."""
        with torch.inference_mode():
            logits = self.model.classifier(state)
        prediction = logits.argmax(1)
        energies = [view.energy_of(name, logits, self.y) for name in QUANTITIES[:3]]
        self.rows.append(torch.stack([*energies, (prediction == self.y).float()]).cpu())
        self.classes.append(prediction.cpu())
        self.bar(len(state))

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the quantities (quantities,steps,n) and the predicted classes (steps,n)."""
        return torch.stack(self.rows, dim=1).numpy(), torch.stack(self.classes).numpy()
