"""Square Attack: random squares that raise the margin (Andriushchenko et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core import objectives, pgd
from ...core.rng import ImageRng
from .batch import AttackOptions, Batch
from .restarts import Broken, Rows, from_starts
from .squares import proposals
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
        rng = part.rng(options.seed, restart)
        start = shapes.start(part.x, rng)
        value, now = _query(surrogate, part, start)
        broken.add(left, start, now)
        rows = _Rows(part, left, start, value, rng, part.x.new_empty(len(part), 0, 0)).without(now)
        for query in range(queries):
            if not len(rows.image):
                return
            surrogate.on_step()
            if query % _BLOCK == 0:
                like = part.x.new_empty(len(rows.image), _BLOCK, shapes.draws)
                rows.prepared = shapes.prepare(rows.batch.x, query, rows.rng.uniform(like))
            prepared = rows.prepared[:, query % _BLOCK]
            moved = shapes.propose(rows.batch.x, rows.best, query, prepared)
            value, now = _query(surrogate, rows.batch, moved)
            better = value > rows.value
            rows.best = torch.where(better.view(-1, 1, 1, 1), moved, rows.best)
            rows.value = torch.where(better, value, rows.value)
            if now.any():
                broken.add(rows.image, moved, now)
                rows = rows.without(now)
        broken.confirm(surrogate, rows.image, rows.batch, rows.best)

    return from_starts(surrogate, batch, restarts, search)


@dataclass
class _Rows(Rows):
    best: Tensor
    value: Tensor  # the margin at `best` (n,)
    rng: ImageRng
    prepared: Tensor  # what the proposals of the next queries take


def _query(surrogate: Surrogate, batch: Batch, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margin that is to be raised, and which images are broken."""
    logits = surrogate(moved)
    value = objectives.loss("margin", surrogate, batch.x, batch.y, batch.target)(logits)
    broken = value >= 0
    return value, surrogate.broken(batch, moved, logits) if broken.any() else broken
