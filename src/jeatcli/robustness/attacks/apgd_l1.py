"""APGD under l1: sparse steps in balls that shrink to the radius (Croce and Hein 2021)."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...core.pgd import L1, l1_norm
from ...core.rng import Rng
from .ascent import Ascent, Climb
from .batch import Batch
from .restarts import Broken

# The radii, in units of the last one, and their shares of the steps.
_RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
# The share of the steps between two checks. A check divides the number of the best point's changed
# pixels by the divisor, for that of a step's, and the step size, down to a tenth of the radius;
# where the best point has become sparser, steps are full again.
_PERIOD, _DIVISOR, _SMALLEST, _SPARSER = 0.04, 1.5, 0.1, 0.95


@dataclass
class _Sparse(Climb):
    pixels: Tensor  # how many pixels the best point of the last check had changed (n,)


@dataclass(frozen=True)
class SparseAscent(Ascent):
    """APGD in the l1 ball; a step changes as many pixels as the best point suggests."""

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        return L1(_RADII[0][0] * self.ball.eps).on_sphere(x, rng)

    def run(self, batch: Batch, image: Tensor, start: Tensor, broken: Broken) -> None:
        left = self.steps
        for factor, share in _RADII:
            last = factor == 1.0
            steps = left if last else min(math.ceil(share * self.steps), left - 1)
            left -= steps
            inner = replace(self, ball=L1(factor * self.ball.eps), steps=steps)
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
        ahead = rows.moved + rows.size * chosen / l1_norm(chosen).clamp_min(1)
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
