"""Square Attack: random squares that raise the margin (Andriushchenko et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ...core import objectives, pgd
from ...core.rng import ImageRng
from .batch import AttackOptions, Batch
from .restarts import Broken, from_starts
from .squares import Proposals, proposals
from .surrogate import Surrogate

# Queries whose random numbers are drawn at once.
_BLOCK = 250


@torch.no_grad()
def square(
    surrogate: Surrogate, batch: Batch, options: AttackOptions, *, queries: int, restarts: int
) -> Tensor:
    """Return adversarial images where random squares that raise the margin lead to one."""
    shapes = proposals(pgd.ball(options.threat), batch.x.shape[1])

    def search(restart: int, part: Batch, left: Tensor, broken: Broken) -> None:
        _climb(surrogate, part, left, shapes, part.rng(options.seed, restart), queries, broken)

    return from_starts(surrogate, batch, restarts, search)


@dataclass
class Rows:
    """The images that are left: their positions, best points, values there, and what comes next."""

    batch: Batch
    image: Tensor
    best: Tensor
    value: Tensor
    rng: ImageRng
    prepared: Tensor

    def take(self, keep: Tensor) -> Rows:
        """Return the rows at the positions `keep` alone."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        batch, rng = parts.pop("batch").take(keep), parts.pop("rng").take(keep)
        return Rows(batch, rng=rng, **{name: part[keep] for name, part in parts.items()})


def _climb(
    surrogate: Surrogate,
    batch: Batch,
    image: Tensor,
    shapes: Proposals,
    rng: ImageRng,
    queries: int,
    broken_so_far: Broken,
) -> None:
    start = shapes.start(batch.x, rng)
    value, broken = _query(surrogate, batch, start)
    broken_so_far.add(image, start, broken)
    rows = Rows(batch, image, start, value, rng, batch.x.new_empty(len(batch), 0, 0))
    rows = _without(rows, broken)
    for query in range(queries):
        if not len(rows.image):
            return
        surrogate.on_step()
        if query % _BLOCK == 0:
            like = batch.x.new_empty(len(rows.image), _BLOCK, shapes.draws)
            rows.prepared = shapes.prepare(rows.batch.x, query, rows.rng.uniform(like))
        prepared = rows.prepared[:, query % _BLOCK]
        moved = shapes.propose(rows.batch.x, rows.best, query, prepared)
        value, broken = _query(surrogate, rows.batch, moved)
        better = value > rows.value
        rows.best = torch.where(better.view(-1, 1, 1, 1), moved, rows.best)
        rows.value = torch.where(better, value, rows.value)
        if broken.any():
            broken_so_far.add(rows.image, moved, broken)
            rows = _without(rows, broken)
    broken_so_far.confirm(surrogate, rows.image, rows.batch, rows.best)


def _without(rows: Rows, broken: Tensor) -> Rows:
    return rows.take((~broken).nonzero().squeeze(1)) if broken.any() else rows


def _query(surrogate: Surrogate, batch: Batch, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margin that is to be raised, and which images are broken."""
    logits = surrogate(moved)
    if batch.target is None:
        value = objectives.margin(logits, batch.y)
    else:
        value = -objectives.margin(logits, batch.target)
    broken = value >= 0
    return value, surrogate.broken(batch, moved, logits) if broken.any() else broken
