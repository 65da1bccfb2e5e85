"""What decides image k of a drawing but its class: where it starts, how it descends, by which seed.

Each image has a generator of its own, so it is the same in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints.model import Model
from ..core import objectives, pgd
from ..core.energy import PerImage
from ..core.models.classifier import Classifier
from ..core.rng import ImageRng, mix
from ..runtime.distributed import current
from .initializers import Start
from .samplers import Hold, Watch, descend
from .settings import Descent


@dataclass(frozen=True)
class Recipe:
    """How a model draws.

    Args:
        model: Whose energies are lowered.
        descent: The sampler and its settings.
        start: Where images start, from `starts.prepare`.
        seed: Of everything random.
        best_of: Candidates an image, of which the one of the lowest objective is kept.
        hold: Puts back, after each step, what must not change.
        origin: The picture (C, H, W) that is changed, if there is one.
        quick: The model's classifier made quicker, by `models.quick`; None is its own.
    """

    model: Model
    descent: Descent
    start: Start
    seed: int = 0
    best_of: int = 1
    hold: Hold | None = None
    origin: Tensor | None = None
    quick: Classifier | None = None

    def draw(self, index: Tensor, y: Tensor, watch: Watch | None = None) -> Tensor:
        """Return the images of the numbers `index` (n,) and classes y (n,), (n, C, H, W).

        `watch` sees the steps of the first candidates.
        """
        y = y.to(self.model.device)
        energy = self.energy(index, y)
        best = self._candidate(index, y, energy, 0, watch)
        if self.best_of == 1:
            return best
        with torch.no_grad():
            height = -energy(best)
            for candidate in range(1, self.best_of):
                with torch.enable_grad():
                    other = self._candidate(index, y, energy, candidate, None)
                best, height = pgd.better(other, -energy(other), best, height)
        return best

    def energy(self, index: Tensor, y: Tensor) -> PerImage:
        """Return the function of images (n, C, H, W) to (n,) that the descent lowers."""
        return self.class_energy(y)

    def class_energy(self, y: Tensor) -> PerImage:
        """Return the descent's objective for the classes y (n,)."""
        nothing = torch.empty(0, device=y.device)
        classifier = self.quick or self.model.classifier
        value = objectives.objective(self.descent.objective, classifier, nothing, y, target=y)
        return lambda x: -value(x)

    def rng(self, index: Tensor, candidate: int) -> ImageRng:
        """Return the source of randomness of these images."""
        more = (candidate,) if candidate else ()
        return ImageRng([mix(self.seed, k, *more) for k in index.tolist()])

    def begin(
        self, index: Tensor, y: Tensor, like: Tensor, rng: ImageRng, candidate: int
    ) -> Tensor:
        """Return where these images start."""
        return self.start(y, like, rng)

    def _candidate(
        self, index: Tensor, y: Tensor, energy: PerImage, candidate: int, watch: Watch | None
    ) -> Tensor:
        like = torch.empty(len(y), *self.model.meta.shape, device=self.model.device)
        rng = self.rng(index, candidate)
        start = self.begin(index, y, like, rng, candidate)
        return descend(self.descent, energy, start, rng, self.hold, watch)


class Trace:
    """The first images of a drawing at some steps of their way.

    Args:
        steps: Of the descent.
        frames: How many steps to keep, the first and the last among them.
        most: How many images.
    """

    def __init__(self, steps: int, frames: int, most: int = 10) -> None:
        self.most = most
        self.wanted = {round(k * steps / max(frames - 1, 1)) for k in range(frames)}
        self.steps: list[int] = []
        self.states: list[Tensor] = []

    def __call__(self, step: int, x: Tensor) -> None:
        if step in self.wanted:
            self.steps.append(step)
            self.states.append(x[: self.most].detach().cpu().clone())

    def gathered(self) -> tuple[Tensor, list[int]]:
        """Return the states, (frames, n, C, H, W), and their steps.

        Of several processes each has seen the images that it drew, or none.
        """
        parts = [part for part in current().collect((self.steps, self.states)) if part[1]]
        frames = zip(*(states for _, states in parts), strict=True)
        return torch.stack([torch.cat(frame)[: self.most] for frame in frames]), parts[0][0]
