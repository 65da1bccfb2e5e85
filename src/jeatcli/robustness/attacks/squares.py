"""Square's proposals by norm (Andriushchenko et al. 2020; for l1 Croce and Hein 2021)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from ...core import pgd
from ...core.rng import Rng

# Share of the pixels in a square at first, and the queries after which it is halved again.
SHARE = 0.8
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def side(query: int, height: int, width: int, least: int = 1) -> int:
    """Return the side of the squares of this query, of at least `least` pixels."""
    share = SHARE / 2 ** sum(query > bound for bound in HALVED_AFTER)
    length = max(round(math.sqrt(share * height * width)), least)
    if least > 1 and length % 2 == 0:
        length += 1
    return min(length, height, width)


@dataclass(frozen=True)
class Proposals(ABC):
    """What is particular to a norm: squares in the ball of radius `eps`."""

    eps: float
    channels: int
    # The uniform numbers of an image that a proposal takes, beside one for each channel.
    beside: ClassVar[int]

    @property
    def draws(self) -> int:
        """How many uniform numbers of an image a proposal takes."""
        return self.beside + self.channels

    @abstractmethod
    def start(self, x: Tensor, rng: Rng) -> Tensor:
        """Return the first point around each image."""

    def prepare(self, x: Tensor, query: int, uniform: Tensor) -> Tensor:
        """Turn numbers of U(0, 1), (n, queries, draws), into what `propose` takes for each query.

        `query` is the number of the first one, from 0.
        """
        return uniform

    @abstractmethod
    def propose(self, x: Tensor, best: Tensor, query: int, prepared: Tensor) -> Tensor:
        """Return a change of each best point inside a random square."""


class LinfSquares(Proposals):
    """Vertical stripes at first, then squares of one sign in each channel."""

    beside = 2

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


class BumpSquares(Proposals):
    """Tiles of opposed bumps at first; then one square takes over what another one had."""

    beside = 5
    order: ClassVar[int]  # of the norm

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        n, channels, height, width = x.shape
        length = max(height // 5, 1)
        first = (height - 5 * length) // 2
        offset = torch.zeros_like(x)
        for top in range(first, height - length + 1, length):
            for left in range(first, width - length + 1, length):
                uniform = rng.uniform(x.new_empty(n, 1 + channels))
                tile = offset[:, :, top : top + length, left : left + length]
                signs = _signs(uniform[:, 1:])[:, :, None, None]
                tile += _bumps(length, uniform[:, 0], self.order) * signs
        return self.placed(x, offset)

    def propose(self, x: Tensor, best: Tensor, query: int, prepared: Tensor) -> Tensor:
        height, width = x.shape[2:]
        length = side(query, height, width, least=3)
        offset = best - x
        flat = offset.flatten(2)
        to, origin = (
            _window(prepared[:, k : k + 2], height, width, length).expand(-1, self.channels, -1)
            for k in (0, 2)
        )
        either = torch.zeros_like(flat).scatter_(2, to, 1.0).scatter_(2, origin, 1.0)
        old = self._unit(flat.gather(2, to))
        signs = _signs(prepared[:, 5:])[:, :, None]
        bumps = _bumps(length, prepared[:, 4], self.order).flatten(2) * signs
        new = self._unit(bumps + old) * self.budget(offset, flat * either)
        moved = flat.scatter(2, origin, 0.0).scatter(2, to, new).view_as(x)
        return self.placed(x, moved)

    def _unit(self, flat: Tensor) -> Tensor:
        """Scale each channel (n, C, pixels) to size 1."""
        size: Tensor = torch.linalg.vector_norm(flat, self.order, dim=2, keepdim=True)
        return flat / (size + 1e-12)

    @abstractmethod
    def budget(self, offset: Tensor, windows: Tensor) -> Tensor:
        """Return the size that the square gets in each channel, (n, C, 1).

        It is that of both squares, `windows` (n, C, pixels), and a share of what the ball leaves.
        """

    @abstractmethod
    def placed(self, x: Tensor, offset: Tensor) -> Tensor:
        """Return the image at this offset, brought into the ball and [0, 1]."""


class L2Squares(BumpSquares):
    """Squares of the Euclidean norm."""

    order = 2

    def budget(self, offset: Tensor, windows: Tensor) -> Tensor:
        spare = (self.eps**2 - pgd.l2_norm(offset).square()).clamp_min(0).flatten(1)[:, :, None]
        return (spare / self.channels + windows.square().sum(2, keepdim=True)).sqrt()

    def placed(self, x: Tensor, offset: Tensor) -> Tensor:
        return (x + self.eps * pgd.normalize_l2(offset)).clamp_(0, 1)


class L1Squares(BumpSquares):
    """Squares of the sum of absolute values, projected onto ball and range at once."""

    order = 1

    def budget(self, offset: Tensor, windows: Tensor) -> Tensor:
        spare = (self.eps - pgd.l1_norm(offset)).clamp_min(0).flatten(1)[:, :, None]
        # As many times as there are channels, as in the reference implementation: the projection
        # takes the excess from all pixels, and so makes the change sparse.
        return spare + self.channels * windows.abs().sum(2, keepdim=True)

    def placed(self, x: Tensor, offset: Tensor) -> Tensor:
        return pgd.L1(self.eps).project(x + offset, x).clamp_(0, 1)


def proposals(ball: pgd.Ball, channels: int) -> Proposals:
    """Return what belongs to the norm of the ball."""
    if isinstance(ball, pgd.Linf):
        return LinfSquares(ball.eps, channels)
    kind = L1Squares if isinstance(ball, pgd.L1) else L2Squares
    return kind(ball.eps, channels)


def _signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0)


def _corner(uniform: Tensor, side: int, length: int | Tensor) -> Tensor:
    """Return where a square begins; like the reference implementation, never at the very end."""
    return (uniform * (side - length)).long()


def _inside(uniform: Tensor, side: int, lengths: Tensor) -> Tensor:
    """Return which places lie in random windows of these lengths, (n, q, side) of 0 and 1."""
    place = torch.arange(side, device=uniform.device)
    first = _corner(uniform, side, lengths)[:, :, None]
    return ((place >= first) & (place < first + lengths[:, None])).float()


def _window(uniform: Tensor, height: int, width: int, length: int) -> Tensor:
    """Return the flat indices of a random square's pixels, (n, 1, length * length)."""
    reach = torch.arange(length, device=uniform.device)
    rows = _corner(uniform[:, 0], height, length)[:, None] + reach
    columns = _corner(uniform[:, 1], width, length)[:, None] + reach
    return (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None, :]


def _bumps(length: int, uniform: Tensor, order: int) -> Tensor:
    """Return a bump and a dent side by side or one above the other, (n, 1, length, length)."""
    pair = _pair(length, order, uniform.device)
    return torch.where((uniform > 0.5)[:, None, None], pair.T, pair)[:, None]


# There are few lengths in 5,000 queries, and every one would be waited for on its way to a GPU.
@cache
def _pair(length: int, order: int, device: torch.device) -> Tensor:
    upper = _bump(length // 2, length, order)
    lower = _bump(length - length // 2, length, order)
    pair = torch.cat([upper, -lower])
    scaled: Tensor = (pair / torch.linalg.vector_norm(pair, order)).to(device)
    return scaled


def _bump(height: int, width: int, order: int) -> Tensor:
    """Return a bump of norm 1: sums of 1/k^2 (1/k^4 for l1) over the squares around its centre."""
    rows = (torch.arange(height) - height // 2).abs()
    columns = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(rows[:, None], columns[None, :])
    weights = 1.0 / torch.arange(1.0, max(height, width) // 2 + 2).pow(4 // order)
    bump: Tensor = weights.flip(0).cumsum(0).flip(0)[ring]
    norm: Tensor = torch.linalg.vector_norm(bump, order).clamp_min(1e-12)
    return bump / norm
