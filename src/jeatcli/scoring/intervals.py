"""Numbers with the interval in which they would fall for other images."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

_RESAMPLES, _AT_ONCE = 1000, 20
_SIGMAS = 1.96
# Of the images, each of which is left out once.
GROUPS = 10


class Estimate(float):
    """A number and its interval of 95 %."""

    low: float
    high: float

    def __new__(cls, value: float, low: float, high: float) -> Self:
        made = super().__new__(cls, value)
        made.low, made.high = low, high
        return made

    def __reduce__(self) -> tuple[Any, ...]:  # several processes pickle it
        return Estimate, (float(self), self.low, self.high)


def intervals_of(values: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the intervals of those numbers that have one."""
    return {
        name: (value.low, value.high)
        for name, value in values.items()
        if isinstance(value, Estimate)
    }


def bootstrapped(values: Tensor) -> Estimate:
    """Return the mean of the images' values (n,), its interval by the bootstrap (Efron 1979)."""
    values, generator = values.double(), torch.Generator().manual_seed(0)
    means = []
    for _ in range(_RESAMPLES // _AT_ONCE):
        drawn = torch.randint(len(values), (_AT_ONCE, len(values)), generator=generator)
        means.append(values[drawn].mean(1))
    low, high = torch.cat(means).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return Estimate(values.mean().item(), low, high)


def jackknifed(value: float, without: Sequence[float]) -> Estimate:
    """Return a value, its interval from those without a group each (Quenouille 1956)."""
    parts = torch.tensor(without, dtype=torch.float64)
    spread = _SIGMAS * ((parts - parts.mean()).square().sum() * (1 - 1 / len(parts))).sqrt().item()
    return Estimate(value, value - spread, value + spread)


def group_of(count: int) -> Tensor:
    """Return the group of each of so many images, at random (n,)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(count, generator=generator) % min(GROUPS, count)
