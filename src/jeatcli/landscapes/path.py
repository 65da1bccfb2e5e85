"""The energies along the way of an attack, on beyond its ball, and along a chain."""

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
from ..core.sgld import Chain, langevin, uniform_start
from ..core.threat import Threat
from ..errors import UsageProblem
from ..runtime.progress import Bar
from ..sampling.samplers import Sgld
from .view import (
    Findings,
    Scene,
    View,
    check_norm,
    energy_of,
    finite,
    identify,
    one_of,
    positive,
    rng_of,
)

WAYS = ("pgd", "sgld")
QUANTITIES = ("joint", "marginal", "ce", "correct")
QUANTILES = (0.1, 0.9)
# The divergence is least at the image, where the way begins: its gradient is zero there.
OBJECTIVES = tuple(name for name in objectives.OBJECTIVES if name != "kl")


@dataclass(frozen=True)
class Paths(Findings):
    """What the runs' energies were along two ways.

    Args:
        models: The runs.
        view: The settings.
        threat: The ball of the attack.
        ways: By way, (runs, quantities, steps + 1, images); the quantities are `QUANTITIES`.
        predictions: By way, the predicted classes (runs, steps + 1, images).
    """

    models: tuple[Model, ...]
    view: Path
    threat: Threat
    ways: dict[str, NDArray[np.float32]]
    predictions: dict[str, NDArray[np.int64]]
    title = "Energies along the way"

    def summary(self) -> dict[str, Any]:
        """Return the settings, and for each run the mean quantities where the ways begin and end.

        `pgd` has them at the `start`, at the ball's `edge` (after the attack's steps) and
        `beyond`; `sgld` at `start` and `end`.
        """
        last = self.view.steps
        places = {
            "pgd": {"start": 0, "edge": last, "beyond": last + self.view.beyond},
            "sgld": {"start": 0, "end": self.view.chain},
        }
        runs = []
        for index, model in enumerate(self.models):
            figures: dict[str, Any] = dict(identify(model))
            for way, named in places.items():
                figures[way] = {name: self._means(way, index, k) for name, k in named.items()}
            runs.append(figures)
        return {
            "n": self.view.num,
            "objective": self.view.objective,
            "norm": self.threat.norm,
            "eps": self.threat.eps,
            "steps": self.view.steps,
            "beyond": self.view.beyond,
            "chain": self.view.chain,
            "quantiles": list(QUANTILES),
            "runs": runs,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return `pgd` and `sgld` (runs,quantities,steps,images) and the predicted classes."""
        classes = {f"{way}_prediction": each for way, each in self.predictions.items()}
        return {**self.ways, **classes, "quantities": np.array(QUANTITIES)}

    def _means(self, way: str, run: int, step: int) -> dict[str, float]:
        means = self.ways[way][run, :, step].mean(1)
        return dict(zip(QUANTITIES, means.tolist(), strict=True))


@dataclass(frozen=True)
class Path(View):
    """E(x,y), E(x), CE(x,y) and the prediction along PGD from test images, and along a chain.

    After `steps` steps inside the ball the attack goes on for `beyond` more of the same length
    that only [0, 1] stops. The chain is the run's sampler: SGLD on E(x,y) from uniform noise,
    y the labels of the same test images.

    Args:
        num: How many test images, the first ones.
        objective: What the attack raises, one of `OBJECTIVES`.
        norm, eps: Its ball.
        steps: Inside the ball, each of 2.5 eps / steps.
        beyond: Steps that leave it.
        chain: Steps of the chain.
    """

    num: int = 100
    objective: str = "ce"
    norm: str = "linf"
    eps: float | None = None
    steps: int = 20
    beyond: int = 20
    chain: int = 100

    def __post_init__(self) -> None:
        check_norm(self.norm)
        one_of("objective", self.objective, OBJECTIVES)
        positive(steps=self.steps, chain=self.chain)
        if self.eps is not None:
            positive(eps=self.eps)
        if self.beyond < 0:
            raise UsageProblem(f"beyond must be at least 0 steps, not {self.beyond}")

    def measure(self, scene: Scene) -> Paths:
        objectives.check_classes(self.objective, len(scene.images.classes))
        threat = scene.threat(self.norm, self.eps)
        x, y = scene.first(self.num)
        ways: dict[str, NDArray[np.float32]] = {}
        seen: dict[str, NDArray[np.int64]] = {}
        steps = {"pgd": self.steps + self.beyond, "sgld": self.chain}
        for way in WAYS:
            with scene.reporter.track(way, len(scene.models) * len(x) * (steps[way] + 1)) as bar:
                found = [self._walk(way, model, x, y, threat, scene, bar) for model in scene.models]
            ways[way] = np.stack([values for values, _ in found])
            seen[way] = np.stack([classes for _, classes in found])
        return Paths(scene.models, self, threat, ways, seen)

    def _walk(
        self,
        way: str,
        model: Model,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        scene: Scene,
        bar: Bar,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the quantities (quantities,steps,n) and classes (steps,n) along one way."""
        parts = []
        for index in torch.split(torch.arange(len(x)), scene.batch_size):
            some, labels = x[index.to(x.device)], y[index.to(x.device)]
            recorder = Recorder(model, labels, bar)
            if way == "pgd":
                self._attack(model, some, labels, threat, recorder)
            else:
                self._chain(model, some, labels, rng_of(index, scene.seed), recorder)
            parts.append(recorder.result())
        values = np.concatenate([each for each, _ in parts], axis=2)
        return finite(model, values, f"along {way}"), np.concatenate([c for _, c in parts], axis=1)

    def _attack(
        self, model: Model, x: Tensor, y: Tensor, threat: Threat, recorder: Recorder
    ) -> None:
        """Record the images, PGD's iterates in the ball, and those that go on without it."""
        value = objectives.objective(self.objective, model.classifier, x, y)
        everywhere = pgd.Linf(math.inf) if threat.norm == "linf" else pgd.L2(math.inf)
        recorder.record(x)
        moved = x
        for ball, steps in ((pgd.ball(threat), self.steps), (everywhere, self.beyond)):
            moved = pgd.ascend(
                value,
                x,
                ball,
                steps=steps,
                step_size=2.5 * threat.eps / self.steps,
                start=moved,
                hook=recorder,
            )

    def _chain(self, model: Model, x: Tensor, y: Tensor, rng: ImageRng, recorder: Recorder) -> None:
        """Record the states of the run's sampler, its start first."""
        descent = Sgld.suited(model)
        chain = Chain(self.chain, descent.step_size, descent.noise, descent.clip)
        start = uniform_start(x, rng)
        recorder.record(start)
        langevin(
            lambda images: energy.joint(model.classifier(images), y), start, chain, rng, recorder
        )


class Recorder:
    """The quantities and the predicted classes at every state of a way; a hook of the loops.

    Args:
        model: Whose they are.
        y: The labels of the images (n,).
        bar: Told of each state's images.
    """

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
        energies = [energy_of(name, logits, self.y) for name in QUANTITIES[:3]]
        self.rows.append(torch.stack([*energies, (prediction == self.y).float()]).cpu())
        self.classes.append(prediction.cpu())
        self.bar(len(state))

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the quantities (quantities,steps,n) and the predicted classes (steps,n)."""
        return torch.stack(self.rows, dim=1).numpy(), torch.stack(self.classes).numpy()
