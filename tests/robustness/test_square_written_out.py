"""Square's points beside the reference implementation's arithmetic, one image and window a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from jeatcli.core import pgd
from jeatcli.robustness.attacks import squares

Floats = NDArray[np.float64]
SHAPE = (3, 13, 11)  # which five tiles do not fill
BALLS = [pgd.Linf(0.1), pgd.L2(0.9), pgd.L1(4.0)]
ORDERS = {pgd.Linf: math.inf, pgd.L2: 2, pgd.L1: 1}


class Written:
    """The attack of Andriushchenko et al. (2020), for l1 of Croce and Hein (2021), in loops.

    `numbers` of U(0, 1) are taken in the order in which AutoAttack's code draws them.
    """

    def __init__(self, ball: pgd.Ball, x: Floats, numbers: Floats) -> None:
        self.ball, self.x, self.numbers = ball, x, iter(numbers.tolist())
        self.eps, self.order = ball.eps, ORDERS[type(ball)]

    def sign(self) -> float:
        return 1.0 if next(self.numbers) >= 0.5 else -1.0

    def signs(self) -> Floats:
        return np.array([self.sign() for _ in range(len(self.x))])[:, None, None]

    def window(self, side: int) -> tuple[slice, slice]:
        tops = [int(next(self.numbers) * (size - side)) for size in self.x.shape[1:]]
        first, second = (slice(top, top + side) for top in tops)
        return first, second

    def sizes(self, part: Floats) -> Floats:
        flat = np.linalg.norm(part.reshape(len(part), -1), self.order, axis=1)
        return flat[:, None, None]

    def bump(self, height: int, width: int) -> Floats:
        """Lay squares around the middle on one another, the k-th 1/k^2 high, for l1 1/k^4."""
        total = np.zeros((1, height, width))
        row, column = height // 2, width // 2
        for k in range(max(height, width) // 2 + 1):
            inner = slice(max(row - k, 0), row + k + 1), slice(max(column - k, 0), column + k + 1)
            total[:, *inner] += 1 / (k + 1) ** (4 / self.order)
        return total / self.sizes(total)

    def bumps(self, side: int) -> Floats:
        upper, lower = self.bump(side // 2, side), self.bump(side - side // 2, side)
        both = np.concatenate([upper, -lower], axis=1)
        both /= self.sizes(both)
        return both.transpose(0, 2, 1) if next(self.numbers) > 0.5 else both

    def start(self) -> Floats:
        channels, height, width = self.x.shape
        if self.order == math.inf:
            stripes = [[[self.sign() for _ in range(width)]] for _ in range(channels)]
            return np.clip(self.x + self.eps * np.array(stripes), 0, 1)
        side, offset = height // 5, np.zeros_like(self.x)
        for row in range(height // side):
            for column in range(width // side):
                top, left = (k * side + (height - 5 * side) // 2 for k in (row, column))
                tile = offset[:, top : top + side, left : left + side]
                tile += self.bumps(side) * self.signs()
        return self.placed(offset)

    def query(self, best: Floats, side: int) -> Floats:
        if self.order == math.inf:
            rows, columns = self.window(side)
            moved = best.copy()
            moved[:, rows, columns] += 2 * self.eps * self.signs()
            return np.clip(np.clip(moved, self.x - self.eps, self.x + self.eps), 0, 1)
        offset = best - self.x
        to, origin = self.window(side), self.window(side)
        both = np.zeros_like(offset)
        both[:, *to], both[:, *origin] = offset[:, *to], offset[:, *origin]
        old = offset[:, *to] / self.sizes(offset[:, *to])
        new = self.bumps(side) * self.signs() + old
        channels, whole = len(self.x), float(np.linalg.norm(offset.ravel(), self.order))
        if self.order == 2:
            spare = max(self.eps**2 - whole**2, 0)
            budget = np.sqrt(spare / channels + self.sizes(both) ** 2)
        else:
            budget = (max(self.eps - whole, 0) / channels + self.sizes(both)) * channels
        offset[:, *origin] = 0
        offset[:, *to] = new / self.sizes(new) * budget
        return self.placed(offset)

    def placed(self, offset: Floats) -> Floats:
        if self.order == 2:
            return np.clip(self.x + self.eps * offset / np.linalg.norm(offset), 0, 1)
        x = torch.from_numpy(self.x)[None]
        return self.ball.project(x + torch.from_numpy(offset), x)[0].numpy()


class Scripted:
    """A source of randomness that gives known numbers in turn."""

    def __init__(self, numbers: Floats) -> None:
        self.numbers: Iterator[float] = iter(numbers.tolist())

    def uniform(self, like: Tensor) -> Tensor:
        return torch.tensor([next(self.numbers) for _ in range(like.numel())]).view(like.shape)


@pytest.mark.parametrize("ball", BALLS, ids=["linf", "l2", "l1"])
def test_square_starts_as_published(ball: pgd.Ball) -> None:
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    numbers = np.random.default_rng(0).random(400)
    rng: Any = Scripted(numbers)
    ours = squares.proposals(ball, 3).start(x, rng)
    theirs = Written(ball, x[0].double().numpy(), numbers).start()
    torch.testing.assert_close(ours[0].double(), torch.from_numpy(theirs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("query", [0, 30, 150, 400, 4500])
@pytest.mark.parametrize("ball", BALLS, ids=["linf", "l2", "l1"])
def test_square_proposes_as_published(ball: pgd.Ball, query: int) -> None:
    generator = torch.Generator().manual_seed(query)
    x = torch.rand(8, *SHAPE, generator=generator)
    # Inside the ball, so that there is a budget left.
    noise = torch.randn(x.shape, generator=generator)
    size = 0.7 * ball.eps / ball.distance(noise, torch.zeros_like(noise))
    best = (x + size.view(-1, 1, 1, 1) * noise).clamp(0, 1)
    shapes = squares.proposals(ball, 3)
    numbers = torch.rand(8, 4, shapes.draws, generator=generator)
    prepared = shapes.prepare(x, query, numbers)
    least = 1 if isinstance(ball, pgd.Linf) else 3
    for k in range(4):
        ours = shapes.propose(x, best, query + k, prepared[:, k])
        side = squares.side(query + k, *SHAPE[1:], least)
        for image in range(8):
            theirs = Written(ball, x[image].double().numpy(), numbers[image, k].double().numpy())
            expected = theirs.query(best[image].double().numpy(), side)
            torch.testing.assert_close(
                ours[image].double(), torch.from_numpy(expected), rtol=0, atol=1e-5
            )
