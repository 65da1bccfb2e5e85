"""FAB: the nearest point beyond the decision boundary, by projections (Croce and Hein 2020b)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...core import pgd
from .batch import Batch, Plan
from .projection import displacement
from .restarts import Found
from .surrogate import Search

# The paper's constants: the largest weight of the original image in a step, the extrapolation
# beyond the boundary, and how far an adversarial point is drawn back to the image.
WEIGHT = 0.1
OVERSHOOT = 1.05
BACK = 0.9

# The difference of two logits that is to become positive (n,), and its gradient.
Boundary = Callable[[Search, Batch, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Walk:
    """FAB on one kind of boundary.

    Args:
        search: The classifier.
        boundary: Linearises the boundary that a row walks to.
        plan: For norm and radius: an image is broken once its distance is at most the radius.
        steps: Number of steps.
    """

    search: Search
    boundary: Boundary
    plan: Plan
    steps: int

    def run(self, batch: Batch, image: Tensor, start: Tensor, found: Found) -> None:
        """Walk from `start`, and add what breaks to `found`; broken images leave at once."""
        threat = self.plan.threat
        ball = pgd.ball(threat)
        moved = start
        for step in range(self.steps):
            if not len(image):
                return
            self.search.on_step(step)
            moved = self._step(batch, moved, ball)
            with torch.no_grad():
                beyond = batch.broken(self.search(moved))
            near = beyond & (ball.distance(moved, batch.x) <= threat.eps)
            self._add(batch, image, moved, near, found)
            drawn_back = batch.x + BACK * (moved - batch.x)
            moved = torch.where(beyond.view(-1, 1, 1, 1), drawn_back, moved)
            if (gone := found.broken[image]).any():
                keep = (~gone).nonzero().squeeze(1)
                batch, image, moved = batch.take(keep), image[keep], moved[keep]

    def _step(self, batch: Batch, moved: Tensor, ball: pgd.Ball) -> Tensor:
        """Go beyond the linearised boundary, nearer to the image than the last point was."""
        value, normal = self.boundary(self.search, batch, moved)
        at_image = value + (normal * (batch.x - moved)).flatten(1).sum(1)
        norm = self.plan.threat.norm
        ahead = displacement(moved, normal, value, norm)
        aside = displacement(batch.x, normal, at_image, norm)
        nothing = torch.zeros_like(ahead)
        lengths = [ball.distance(d, nothing).clamp_min(1e-8) for d in (ahead, aside)]
        share = (lengths[0] / (lengths[0] + lengths[1])).clamp_max(WEIGHT).view(-1, 1, 1, 1)
        mixed = (1 - share) * (moved + OVERSHOOT * ahead) + share * (batch.x + OVERSHOOT * aside)
        return mixed.clamp_(0, 1)

    def _add(self, batch: Batch, image: Tensor, moved: Tensor, near: Tensor, found: Found) -> None:
        rows = near.nonzero().squeeze(1)
        if not len(rows):
            return
        if not self.search.exact:
            near[rows] = self.search.surely_broken(batch.take(rows), moved[rows])
        found.add(image, moved, near)


def from_starts(walk: Walk, batch: Batch, restarts: int, classes: Tensor | None = None) -> Tensor:
    """Walk from the images themselves, then from random points half a radius away.

    Args:
        walk: What to run.
        batch: The images.
        restarts: Number of starts.
        classes: Classes to try for each image (n, T), side by side; None for none.

    Returns:
        Adversarial images within the radius where there are any, else the images as they are.
    """
    found = Found(batch)
    half = pgd.ball(replace(walk.plan.threat, eps=walk.plan.threat.eps / 2))
    # Images that are broken as they are need no walk.
    with torch.no_grad():
        found.broken |= walk.search.broken(batch, batch.x, walk.search(batch.x))
    for restart, left, part in found.restarts(restarts, walk.search):
        toward = None if classes is None else classes[left]
        rows, draws = part.tries(walk.plan.seed, restart, toward)
        starts = [half.on_sphere(part.x, rng) if restart else part.x for rng in draws]
        walk.run(rows, left.repeat(len(draws)), torch.cat(starts), found)
    return found.images
