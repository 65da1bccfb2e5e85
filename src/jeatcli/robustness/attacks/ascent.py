"""The ascent of APGD: a step that halves where progress stalls (Croce and Hein 2020a).

Under l1 its steps are sparse, in balls that shrink to the radius (Croce and Hein 2021).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ...core import pgd
from ...core.rng import Rng
from .batch import Batch
from .restarts import Broken, Rows
from .surrogate import Surrogate

Loss = Callable[[Tensor, Batch], Tensor]

# The paper's constants: the share of a step that is the gradient's (the rest is momentum), the
# share of rising steps below which the step size is halved, and the intervals between two such
# checks, as shares of all steps: the first, the decrease, the shortest.
GRADIENT_SHARE = 0.75
RISING = 0.75
FIRST, DECREASE, SHORTEST = 0.22, 0.03, 0.06
# Under l1: the radii, in units of the last one, and their shares of the steps.
_RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
# The share of the steps between two checks. A check divides the number of the best point's changed
# pixels by the divisor, for that of a step's, and the step size, down to a tenth of the radius;
# where the best point has become sparser, steps are full again.
_PERIOD, _DIVISOR, _SMALLEST, _SPARSER = 0.04, 1.5, 0.1, 0.95


@dataclass
class Climb(Rows):
    """Rows that climb a loss, and the best point of each so far."""

    moved: Tensor  # the current iterate
    gradient: Tensor  # of the loss at `moved`
    best: Tensor  # the iterate of highest loss; `best_gradient` is the gradient there
    best_gradient: Tensor
    highest: Tensor  # the highest loss (n,)
    size: Tensor  # the step size (n, 1, 1, 1), in the [0, 1] pixel scale

    def after(self, moved: Tensor, values: Tensor, gradient: Tensor) -> Self:
        """Return the rows after the step to `moved`, of these losses and this gradient."""
        better = values > self.highest
        wide = better.view(-1, 1, 1, 1)
        return replace(
            self,
            moved=moved,
            gradient=gradient,
            best=torch.where(wide, moved, self.best),
            best_gradient=torch.where(wide, gradient, self.best_gradient),
            highest=torch.where(better, values, self.highest),
        )

    def sent_back(self, wide: Tensor) -> Self:
        """Return the rows with those of a mask (n, 1, 1, 1) at their best points."""
        moved = torch.where(wide, self.best, self.moved)
        gradient = torch.where(wide, self.best_gradient, self.gradient)
        return replace(self, moved=moved, gradient=gradient)


@dataclass
class Halving(Climb):
    """Rows whose step sizes halve where progress stalls."""

    last: Tensor  # the iterate before the current one
    highest_before: Tensor  # the highest loss at the last check (n,)
    value: Tensor  # the loss of the last step (n,)
    rises: Tensor  # how many steps rose since the last check (n,)
    halved: Tensor  # whether the last check halved the step size (n,)


@dataclass(frozen=True)
class Ascent:
    """APGD on one loss."""

    surrogate: Surrogate
    loss: Loss  # what is raised, of the logits and the rows
    ball: pgd.Ball
    steps: int
    # How many gradients are averaged at each point, for classifiers that draw at random.
    draws: int = 1

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        """Return a random point around each image."""
        return self.ball.on_sphere(x, rng)

    def run(self, batch: Batch, image: Tensor, start: Tensor, broken: Broken) -> None:
        """Ascend from `start`, and add what breaks to `broken`; broken images leave at once."""
        rows = self._begin(batch, image, start, broken)
        period = max(int(FIRST * self.steps), 1)
        since = 0
        for step in range(self.steps):
            if not len(rows.image):
                return
            self.surrogate.on_step()
            moved = self._move(rows, 1.0 if step == 0 else GRADIENT_SHARE)
            last = step == self.steps - 1
            values, gradient, logits = self._evaluate(rows.batch, moved, gradient=not last)
            broken.add(rows.image, moved, self.surrogate.broken(rows.batch, moved, logits))
            rows = self._advance(rows, moved, values, gradient)
            since += 1
            if since == period:
                rows = self._check(rows, period)
                since, period = 0, max(period - self._share(DECREASE), self._share(SHORTEST))
            rows = rows.without(broken.mask[rows.image])
        broken.confirm(self.surrogate, rows.image, rows.batch, rows.best)

    def _share(self, share: float) -> int:
        return max(int(share * self.steps), 1)

    def _begin(self, batch: Batch, image: Tensor, start: Tensor, broken: Broken) -> Halving:
        values, gradient, logits = self._evaluate(batch, start)
        broken.add(image, start, self.surrogate.broken(batch, start, logits))
        zeros = torch.zeros_like(values)
        size = torch.full_like(values, 2 * self.ball.eps).view(-1, 1, 1, 1)
        climb = batch, image, start, gradient, start, gradient, values, size
        rows = Halving(
            *climb,
            last=start,
            highest_before=values,
            # The reference implementation compares the first step's loss with zero, not with
            # the start's; published numbers are its numbers.
            value=zeros,
            rises=zeros,
            halved=torch.ones_like(values, dtype=torch.bool),
        )
        return rows.without(broken.mask[image])

    def _evaluate(
        self, batch: Batch, moved: Tensor, gradient: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return losses, their gradient (zeros if it is not wanted) and logits."""

        def loss(logits: Tensor) -> Tensor:
            return self.loss(logits, batch)

        if not gradient:
            with torch.no_grad():
                logits = self.surrogate(moved)
                return loss(logits), torch.zeros_like(moved), logits
        total = torch.zeros_like(moved)
        for _ in range(self.draws):
            values, drawn, logits = self.surrogate.gradient(loss, moved)
            total += drawn
        return values, total / self.draws, logits

    def _move(self, rows: Halving, share: float) -> Tensor:
        """Step along the gradient, then go `share` of the way and on by the rest as before."""
        x, moved = rows.batch.x, rows.moved
        ahead = moved + self.ball.step(rows.gradient, rows.size)
        ahead = self.ball.project(ahead, x).clamp_(0, 1)
        mixed = moved + share * (ahead - moved) + (1 - share) * (moved - rows.last)
        return self.ball.project(mixed, x).clamp_(0, 1)

    def _advance(self, rows: Halving, moved: Tensor, values: Tensor, gradient: Tensor) -> Halving:
        after = rows.after(moved, values, gradient)
        rises = rows.rises + (values > rows.value)
        return replace(after, last=rows.moved, value=values, rises=rises)

    def _check(self, rows: Halving, period: int) -> Halving:
        """Halve the steps of rows that do not get on, and send these back to their best point."""
        stuck = ~rows.halved & (rows.highest_before >= rows.highest)
        halve = (rows.rises <= RISING * period) | stuck
        wide = halve.view(-1, 1, 1, 1)
        return replace(
            rows.sent_back(wide),
            size=torch.where(wide, rows.size / 2, rows.size),
            halved=halve,
            highest_before=rows.highest,
            rises=torch.zeros_like(rows.rises),
        )


@dataclass
class _Sparse(Climb):
    pixels: Tensor  # how many pixels the best point of the last check had changed (n,)


@dataclass(frozen=True)
class SparseAscent(Ascent):
    """APGD in the l1 ball; a step changes as many pixels as the best point suggests."""

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        return pgd.L1(_RADII[0][0] * self.ball.eps).on_sphere(x, rng)

    def run(self, batch: Batch, image: Tensor, start: Tensor, broken: Broken) -> None:
        left = self.steps
        for factor, share in _RADII:
            last = factor == 1.0
            steps = left if last else min(math.ceil(share * self.steps), left - 1)
            left -= steps
            inner = replace(self, ball=pgd.L1(factor * self.ball.eps), steps=steps)
            start = inner.ball.project(start, batch.x).clamp_(0, 1)
            # What breaks in a larger ball does not count.
            start = inner.best_point(batch, image, start, broken if last else None)

    def best_point(
        self, batch: Batch, image: Tensor, start: Tensor, broken: Broken | None
    ) -> Tensor:
        """Ascend in one ball, and return the best points; add what breaks to `broken`, if any."""
        values, gradient, logits = self._evaluate(batch, start)
        size = torch.full_like(values, self.ball.eps).view(-1, 1, 1, 1)
        pixels = _changed(start, batch.x)
        rows = _Sparse(batch, image, start, gradient, start, gradient, values, size, pixels)
        rows = self._judged(rows, logits, broken)
        period = max(int(_PERIOD * self.steps), 1)
        for step in range(self.steps):
            if not len(rows.image):
                break
            self.surrogate.on_step()
            last = broken is not None and step == self.steps - 1
            moved = self._sparse_step(rows)
            values, gradient, logits = self._evaluate(rows.batch, moved, gradient=not last)
            rows = self._judged(rows.after(moved, values, gradient), logits, broken)
            if (step + 1) % period == 0:
                rows = self._adapted(rows)
        if broken is not None:
            broken.confirm(self.surrogate, rows.image, rows.batch, rows.best)
        return rows.best

    def _judged(self, rows: _Sparse, logits: Tensor, broken: Broken | None) -> _Sparse:
        """Return the rows without those of images that are broken now."""
        if broken is None:
            return rows
        broken.add(rows.image, rows.moved, self.surrogate.broken(rows.batch, rows.moved, logits))
        return rows.without(broken.mask[rows.image])

    def _sparse_step(self, rows: _Sparse) -> Tensor:
        x, flat = rows.batch.x, rows.gradient.flatten(1).abs()
        count = (rows.pixels / _DIVISOR).ceil().long().clamp(1, flat.shape[1])
        ordered = flat.sort(dim=1, descending=True).values
        least = ordered.gather(1, count[:, None] - 1).view(-1, 1, 1, 1)
        chosen = rows.gradient.sign() * (rows.gradient.abs() >= least)
        ahead = rows.moved + rows.size * chosen / pgd.l1_norm(chosen).clamp_min(1)
        return self.ball.project(ahead, x).clamp_(0, 1)

    def _adapted(self, rows: _Sparse) -> _Sparse:
        pixels, eps = _changed(rows.best, rows.batch.x), self.ball.eps
        sparser = pixels < _SPARSER * rows.pixels
        wide = sparser.view(-1, 1, 1, 1)
        slower = (rows.size / _DIVISOR).clamp_min(_SMALLEST * eps)
        size = torch.where(wide, torch.full_like(rows.size, eps), slower)
        return replace(rows.sent_back(wide), size=size, pixels=pixels)


def _changed(moved: Tensor, x: Tensor) -> Tensor:
    """Return how many pixels differ, (n,)."""
    return (moved != x).flatten(1).sum(1)
