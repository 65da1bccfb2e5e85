"""What decides image k: where it starts, how it descends, which energy, by which seed.

Each image has a generator of its own, so it is the same in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..acceleration.ways import LIBRARY, Way
from ..checkpoints.model import Model
from ..core import energy, pgd
from ..core.energy import PerImage
from ..core.models.classifier import Classifier
from ..core.rng import ImageRng, drawing_by, mix
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Bar, Reporter
from .initializers import Initializer
from .samplers import Hold, Lowest, Sampler, Watch, descend


@dataclass(frozen=True)
class SamplingPlan:
    """Images to draw, and everything that decides them."""

    model: Model  # whose energies are minimised
    sampler: Sampler
    objective: str  # `joint` E(x, y), `ce` or `marginal` E(x)
    initializer: Initializer  # where images start
    labels: Tensor  # classes of the images (n,)
    settings: dict[str, Any]  # every setting, for the record
    seed: int = 0
    best_of: int = 1  # candidates for each image; the one with the lowest objective is kept
    guidance: float = 0.0  # w: the joint energy becomes (1 + w) E(x, y) - w E(x)
    batch_size: int = 256  # images at a time, on each device
    hold: Hold | None = None  # restores, after each step, the pixels that must not change
    origin: Tensor | None = None  # the picture (C, H, W) that is changed, if there is one
    way: Way = LIBRARY  # of computing the network, which rounds the images but does not decide them
    twin: Classifier | None = None  # a faster one of the model's classifier; None is its own
    lowest: Lowest = field(default_factory=Lowest, compare=False)  # of the images drawn so far

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides image k but its number, so not how many images there are."""
        settings = {key: value for key, value in self.settings.items() if key != "n"}
        return settings | {"weights": self.model.fingerprint}

    def batches(
        self, reporter: Reporter = SILENT, skip: Collection[int] = (), trace: Trace | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw the images in turn; yield the numbers (b,) and the images (b, C, H, W) of a batch.

        Where several processes have joined, each draws a part of a batch, all get all of it, and
        the first one's `skip` counts. A batch of numbers to skip alone is left out; `trace`
        records the path of the first batch.
        """
        processes = current()
        parts = torch.split(torch.arange(len(self.labels)), self.batch_size * processes.size)
        needed = processes.from_main(
            lambda: [part for part in parts if not all(k in skip for k in part.tolist())]
        )
        done = len(self.labels) - sum(map(len, needed))
        with reporter.track("sample", len(self.labels), done=done) as bar:
            for index in needed:
                each = len(index) / max(self.sampler.steps * self.best_of, 1)
                steps = _Steps(bar, each, len(index), trace if index[0] == 0 else None)
                own = processes.share(index)
                images = self.draw(own, self.labels[own], steps) if len(own) else None
                if processes.size > 1:
                    shares = processes.collect(None if images is None else images.cpu())
                    images = torch.cat([share for share in shares if share is not None])
                assert images is not None
                yield index, images
                bar(steps.left)
        self._tell_of_stop(reporter)

    def _tell_of_stop(self, reporter: Reporter) -> None:
        """Say so if images were to stop at an energy, and none of those drawn came down to it."""
        if (stop := self.sampler.stop) is None:
            return
        lowest = min(current().collect(self.lowest.value))
        if stop < lowest < math.inf:  # infinite where all images were there already
            reporter.say(f"no image reached `stop` {stop:g}: the lowest objective was {lowest:.4g}")

    def draw(self, index: Tensor, y: Tensor, watch: Watch | None = None) -> Tensor:
        """Return the images of the numbers `index` (n,) and classes y (n,), (n, C, H, W).

        `watch` sees the steps of the first candidates.
        """
        with drawing_by(mix(self.seed, *index.tolist()), self.model.device):
            return self._best(index, y.to(self.model.device), watch)

    def _best(self, index: Tensor, y: Tensor, watch: Watch | None) -> Tensor:
        """Return the likeliest of each image's candidates."""
        objective = self.energy_of(index, y)
        best = self._candidate(index, y, objective, 0, watch)
        if self.best_of == 1:
            return best
        with torch.no_grad():
            highest = -objective(best)
            for candidate in range(1, self.best_of):
                with torch.enable_grad():
                    other = self._candidate(index, y, objective, candidate)
                best, highest = pgd.better(other, -objective(other), best, highest)
        return best

    def energy_of(self, index: Tensor, y: Tensor) -> PerImage:
        """Return the function of images (n, C, H, W) to (n,) that is minimised."""
        return self.class_energy(y)

    def class_energy(self, y: Tensor) -> PerImage:
        """Return the objective for the classes y (n,)."""
        classifier = self.twin or self.model.classifier
        match self.objective:
            case "joint":
                return lambda x: guided(classifier(x), y, self.guidance)
            case "ce":
                return lambda x: energy.cross_entropy(classifier(x), y)
            case _:
                return lambda x: energy.marginal(classifier(x))

    def rng(self, index: Tensor, candidate: int) -> ImageRng:
        """Return the source of randomness of these images."""
        more = (candidate,) if candidate else ()
        return ImageRng([mix(self.seed, k, *more) for k in index.tolist()])

    def start(self, index: Tensor, y: Tensor, rng: ImageRng, candidate: int) -> Tensor:
        """Return where these images start."""
        like = torch.empty(len(y), *self.model.meta.shape, device=self.model.device)
        return self.initializer(y, like, rng)

    def _candidate(
        self,
        index: Tensor,
        y: Tensor,
        objective: PerImage,
        candidate: int,
        watch: Watch | None = None,
    ) -> Tensor:
        rng = self.rng(index, candidate)
        start = self.start(index, y, rng, candidate)
        name = f"`{self.model.name}`"
        return descend(self.sampler, objective, start, rng, self.hold, watch, name, self.lowest)


class _Steps:
    """Counts the images of a batch by the steps of their descent, and shows them to a trace."""

    def __init__(self, bar: Bar, each: float, left: float, trace: Trace | None) -> None:
        self.bar, self.each, self.left, self.trace = bar, each, left, trace

    def __call__(self, step: int, x: Tensor) -> None:
        part = min(self.each, self.left) if step else 0.0
        self.left -= part
        self.bar(part)
        if self.trace:
            self.trace(step, x)


def guided(logits: Tensor, y: Tensor, weight: float) -> Tensor:
    """Return (1 + w) E(x, y) - w E(x), (n,): E(x) at w = -1, E(x, y) at 0, toward CE above."""
    if not weight:
        return energy.joint(logits, y)
    return (1 + weight) * energy.joint(logits, y) - weight * energy.marginal(logits)


class Trace:
    """The first ten images at `frames` steps of their descent, the two ends included."""

    images: ClassVar = 10

    def __init__(self, steps: int, frames: int) -> None:
        frames = min(frames, steps + 1)
        self.wanted = {round(k * steps / max(frames - 1, 1)) for k in range(frames)}
        self.steps: list[int] = []
        self.states: list[Tensor] = []

    def __call__(self, step: int, x: Tensor) -> None:
        if step in self.wanted:
            self.steps.append(step)
            self.states.append(x[: self.images].detach().cpu().clone())

    def gathered(self) -> tuple[Tensor, list[int]]:
        """Return the states, (frames, n, C, H, W), and their steps, from all processes."""
        parts = [part for part in current().collect((self.steps, self.states)) if part[1]]
        frames = zip(*(states for _, states in parts), strict=True)
        return torch.stack([torch.cat(frame)[: self.images] for frame in frames]), parts[0][0]
