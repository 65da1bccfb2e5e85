"""Square Attack, 5,000 queries without gradients (Andriushchenko et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core import objectives, pgd
from ...core.rng import ImageRng
from .batch import Batch, Plan
from .restarts import Found
from .squares import Squares, squares
from .surrogate import Search

# Queries whose random numbers are drawn at once.
_BLOCK = 250


@dataclass
class Rows:
    """The images that are left: their places, best points, values there, and what comes next."""

    batch: Batch
    image: Tensor
    best: Tensor
    value: Tensor
    rng: ImageRng
    prepared: Tensor

    def take(self, keep: Tensor) -> Rows:
        """Return the rows at the places `keep` alone."""
        return Rows(
            self.batch.take(keep),
            self.image[keep],
            self.best[keep],
            self.value[keep],
            self.rng.take(keep),
            self.prepared[keep],
        )


@torch.no_grad()
def perturb(
    search: Search, batch: Batch, plan: Plan, *, queries: int = 5000, restarts: int = 1
) -> Tensor:
    """Return adversarial images where random squares that raise the margin lead to one."""
    found = Found(batch)
    for restart, left, part in found.restarts(restarts, search):
        shapes = squares(pgd.ball(plan.threat), batch.x.shape[1])
        _climb(search, part, left, shapes, part.rng(plan.seed, restart), queries, found)
    return found.images


def _climb(
    search: Search,
    batch: Batch,
    image: Tensor,
    shapes: Squares,
    rng: ImageRng,
    queries: int,
    found: Found,
) -> None:
    start = shapes.start(batch.x, rng)
    value, broken = _query(search, batch, start)
    found.add(image, start, broken)
    rows = Rows(batch, image, start, value, rng, batch.x.new_empty(len(batch), 0, 0))
    rows = _without(rows, broken)
    for query in range(queries):
        if not len(rows.image):
            return
        search.on_step(query)
        if query % _BLOCK == 0:
            like = batch.x.new_empty(len(rows.image), _BLOCK, shapes.draws)
            rows.prepared = shapes.prepare(rows.batch.x, query, rows.rng.uniform(like))
        prepared = rows.prepared[:, query % _BLOCK]
        moved = shapes.propose(rows.batch.x, rows.best, query, prepared)
        value, broken = _query(search, rows.batch, moved)
        better = value > rows.value
        rows.best = torch.where(better.view(-1, 1, 1, 1), moved, rows.best)
        rows.value = torch.where(better, value, rows.value)
        if broken.any():
            found.add(rows.image, moved, broken)
            rows = _without(rows, broken)
    if len(rows.image) and (search.transfers or not search.exact):
        # A coarse search may have missed some, and another classifier's edge lies elsewhere.
        found.add(rows.image, rows.best, search.judged(rows.batch, rows.best))


def _without(rows: Rows, broken: Tensor) -> Rows:
    return rows.take((~broken).nonzero().squeeze(1)) if broken.any() else rows


def _query(search: Search, batch: Batch, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margin that is to be raised, and which images are broken."""
    logits = search(moved)
    if batch.target is None:
        value = objectives.margin(logits, batch.y)
    else:
        value = -objectives.margin(logits, batch.target)
    broken = value >= 0
    return value, search.broken(batch, moved, logits) if broken.any() else broken
