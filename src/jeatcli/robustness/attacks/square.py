"""Square Attack: random squares that raise the margin (Andriushchenko et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from ...core import objectives, pgd
from ...core.rng import ImageRng, Rng
from .batch import AttackOptions, Batch
from .restarts import Broken, from_starts
from .surrogate import Surrogate

# Queries whose random numbers are drawn at once.
_BLOCK = 250
# Share of the pixels in a square at first, and the queries after which it is halved again.
SHARE = 0.8
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


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


def side(query: int, height: int, width: int, least: int = 1) -> int:
    """Return the side of the squares of this query, of at least `least` pixels."""
    share = SHARE / 2 ** sum(query > bound for bound in HALVED_AFTER)
    length = max(round(math.sqrt(share * height * width)), least)
    if least > 1 and length % 2 == 0:
        length += 1
    return min(length, height, width)


class Proposals(Protocol):
    """What is particular to a norm."""

    @property
    def draws(self) -> int:
        """How many uniform numbers of an image a proposal takes."""

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        """Return the first point around each image."""

    def prepare(self, x: Tensor, query: int, uniform: Tensor) -> Tensor:
        """Turn numbers of U(0, 1), (n, queries, draws), into what `propose` takes for each query.

        `query` is the number of the first one, from 0.
        """

    def propose(self, x: Tensor, best: Tensor, query: int, prepared: Tensor) -> Tensor:
        """Return a change of each best point inside a random square."""


@dataclass(frozen=True)
class LinfSquares:
    """Vertical stripes at first, then squares of one sign in each channel."""

    eps: float
    channels: int

    @property
    def draws(self) -> int:
        return 2 + self.channels

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        stripes = _signs(rng.uniform(x[:, :, :1, :]))
        return (x + self.eps * stripes).clamp_(0, 1)

    def prepare(self, x: Tensor, query: int, uniform: Tensor) -> Tensor:
        """Return the changes of the channels, and the square's rows and columns as 0 and 1."""
        height, width = x.shape[2:]
        sides = [side(query + k, height, width) for k in range(uniform.shape[1])]
        lengths = torch.tensor(sides, device=x.device)
        rows = _inside(uniform[:, :, 0], height, lengths)
        columns = _inside(uniform[:, :, 1], width, lengths)
        return torch.cat([2 * self.eps * _signs(uniform[:, :, 2:]), rows, columns], dim=2)

    def propose(self, x: Tensor, best: Tensor, query: int, prepared: Tensor) -> Tensor:
        below = self.channels + x.shape[2]
        rows = prepared[:, None, self.channels : below, None]
        square = rows * prepared[:, None, None, below:]
        change = prepared[:, : self.channels, None, None] * square
        return torch.clamp(best + change, x - self.eps, x + self.eps).clamp_(0, 1)


@dataclass(frozen=True)
class L2Squares:
    """Tiles of opposed bumps at first; then one square takes over what another one had."""

    eps: float
    channels: int

    @property
    def draws(self) -> int:
        return 5 + self.channels

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        n, channels, height, width = x.shape
        length = max(height // 5, 1)
        first = (height - 5 * length) // 2
        offset = torch.zeros_like(x)
        for top in range(first, height - length + 1, length):
            for left in range(first, width - length + 1, length):
                uniform = rng.uniform(x.new_empty(n, 1 + channels))
                tile = offset[:, :, top : top + length, left : left + length]
                tile += _bumps(length, uniform[:, 0]) * _signs(uniform[:, 1:])[:, :, None, None]
        return (x + self.eps * pgd.normalize_l2(offset)).clamp_(0, 1)

    def prepare(self, x: Tensor, query: int, uniform: Tensor) -> Tensor:
        return uniform

    def propose(self, x: Tensor, best: Tensor, query: int, prepared: Tensor) -> Tensor:
        uniform = prepared
        height, width = x.shape[2:]
        length = side(query, height, width, least=3)
        offset = best - x
        flat = offset.flatten(2)
        to, origin = (
            _window(uniform[:, k : k + 2], height, width, length).expand(-1, self.channels, -1)
            for k in (0, 2)
        )
        either = torch.zeros_like(flat).scatter_(2, to, 1.0).scatter_(2, origin, 1.0)
        budget = (flat * either).square().sum(2, keepdim=True)
        spare = (self.eps**2 - pgd.l2_norm(offset).square()).clamp_min(0).flatten(1)[:, :, None]
        old = flat.gather(2, to)
        old = old / (old.norm(dim=2, keepdim=True) + 1e-12)
        bumps = _bumps(length, uniform[:, 4]).flatten(2) * _signs(uniform[:, 5:])[:, :, None]
        new = bumps + old
        new = new / (new.norm(dim=2, keepdim=True) + 1e-12)
        new = new * (spare / self.channels + budget).sqrt()
        moved = flat.scatter(2, origin, 0.0).scatter(2, to, new).view_as(x)
        return (x + self.eps * pgd.normalize_l2(moved)).clamp_(0, 1)


def proposals(ball: pgd.Ball, channels: int) -> Proposals:
    """Return what belongs to the norm of the ball."""
    kind = LinfSquares if isinstance(ball, pgd.Linf) else L2Squares
    return kind(ball.eps, channels)


def _signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0)


def _corner(uniform: Tensor, side: int, length: int) -> Tensor:
    """Return where a square begins; like the reference implementation, never at the very end."""
    return (uniform * (side - length)).long()


def _inside(uniform: Tensor, side: int, lengths: Tensor) -> Tensor:
    """Return which places lie in random windows of these lengths, (n, q, side) of 0 and 1."""
    place = torch.arange(side, device=uniform.device)
    first = (uniform * (side - lengths)).long()[:, :, None]
    return ((place >= first) & (place < first + lengths[:, None])).float()


def _window(uniform: Tensor, height: int, width: int, length: int) -> Tensor:
    """Return the flat indices of a random square's pixels, (n, 1, length * length)."""
    reach = torch.arange(length, device=uniform.device)
    rows = _corner(uniform[:, 0], height, length)[:, None] + reach
    columns = _corner(uniform[:, 1], width, length)[:, None] + reach
    return (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None, :]


def _bumps(length: int, uniform: Tensor) -> Tensor:
    """Return a bump and a dent side by side or one above the other, (n, 1, length, length)."""
    pair = _pair(length, uniform.device)
    return torch.where((uniform > 0.5)[:, None, None], pair.T, pair)[:, None]


# There are few lengths in 5,000 queries, and every one would be waited for on its way to a GPU.
@cache
def _pair(length: int, device: torch.device) -> Tensor:
    upper = _bump(length // 2, length)
    lower = _bump(length - length // 2, length)
    pair = torch.cat([upper, -lower])
    scaled: Tensor = (pair / pair.norm()).to(device)
    return scaled


def _bump(height: int, width: int) -> Tensor:
    """Return a bump of Euclidean norm 1: sums of 1/k^2 over the squares around its centre."""
    rows = (torch.arange(height) - height // 2).abs()
    columns = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(rows[:, None], columns[None, :])
    weights = 1.0 / torch.arange(1.0, max(height, width) // 2 + 2).square()
    bump: Tensor = weights.flip(0).cumsum(0).flip(0)[ring]
    norm: Tensor = torch.linalg.vector_norm(bump).clamp_min(1e-12)
    return bump / norm
