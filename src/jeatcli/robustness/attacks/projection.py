"""The nearest point of a hyperplane inside the box [0, 1], the step that FAB is made of.

Croce and Hein (2020b) solve it by sorting the pixels. The displacement has one unknown, how far
the pixels that are still free have moved, and what they contribute is a concave and piecewise
linear function of it, so that Newton's method from zero ends at the solution in a few steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MOST_STEPS = 100
_TOLERANCE = 1e-6


def displacement(x: Tensor, normal: Tensor, gap: Tensor, norm: str) -> Tensor:
    """Return the smallest d for which <normal, d> = -gap and x + d is in [0, 1].

    Where no point of the box is on the plane, d leads to the box's nearest point to it.

    Args:
        x: Points (n, C, H, W) in [0, 1].
        normal: Of the planes, of the same shape.
        gap: The planes' function at x (n,).
        norm: In which d is small, `linf` or `l2`.
    """
    along = -torch.where(gap >= 0, 1.0, -1.0).view(-1, 1, 1, 1) * normal.sign()
    weight = normal.abs()
    # At the same unknown a pixel moves as fast as its neighbour in linf, by its weight in l2.
    speed = along.abs() if norm == "linf" else weight
    room = torch.where(along > 0, 1 - x, torch.where(along < 0, x, 0.0))
    return along * torch.minimum(_extent(weight, speed, room, gap.abs()) * speed, room)


def _extent(weight: Tensor, speed: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Return s (n, 1, 1, 1) for which the sum of weight * min(s * speed, room) is `need`."""
    weight, speed, room = (part.flatten(1) for part in (weight, speed, room))
    rate = weight * speed
    extent = torch.zeros_like(need)
    for _ in range(_MOST_STEPS):
        free = extent[:, None] * speed < room
        reached = torch.where(free, extent[:, None] * rate, weight * room).sum(1)
        missing = need - reached
        slope = (rate * free).sum(1)
        going = (missing > _TOLERANCE * need) & (slope > 0)
        if not going.any():
            break
        extent = torch.where(going, extent + missing / slope.clamp_min(1e-30), extent)
    # Nothing free is left and the plane is not reached: all the way to the corner.
    extent = torch.where((slope <= 0) & (missing > 0), torch.inf, extent)
    return extent.nan_to_num(posinf=1e12).view(-1, 1, 1, 1)
