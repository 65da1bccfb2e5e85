"""The descents by which images are drawn: a rule a sampler, and the one loop that follows it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core import pgd
from ..core.rng import Rng
from ..core.sgld import PerImage, langevin_step
from .settings import Descent

Rule = Callable[[Tensor, Tensor], Tensor]
Hold = Callable[[Tensor], Tensor]
Watch = Callable[[int, Tensor], None]


def descend(
    descent: Descent,
    energy: PerImage,
    start: Tensor,
    rng: Rng,
    hold: Hold | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Lower `energy` from `start` and return where the images end, detached.

    Args:
        descent: The sampler and its settings; where it starts is the caller's.
        energy: Maps images (n, C, H, W) to (n,); images do not influence one another.
        start: Images (n, C, H, W) in [0, 1].
        rng: Source of the noise of sgld.
        hold: Puts back, after each step, what must not change.
        watch: Called with the number of the step and the images, the start being 0.
    """
    x = start.detach()
    step_rule = _rule(descent, x, rng)
    best, height = x, x.new_full((len(x),), -torch.inf)
    for step in range(descent.steps):
        if watch:
            watch(step, x)
        x = x.requires_grad_(True)
        values = energy(x)
        (slope,) = torch.autograd.grad(values.sum(), x)
        x, values = x.detach(), values.detach()
        if descent.sampler == "pgd":
            best, height = pgd.better(x, -values, best, height)
        moved = step_rule(x, slope)
        if hold:
            moved = hold(moved)
        if descent.stop is not None:
            going = values > descent.stop
            if not going.any():
                # All rest: on every step that is left they are where they are.
                if watch:
                    for rest in range(step + 1, descent.steps):
                        watch(rest, x)
                break
            moved = torch.where(going.view(-1, 1, 1, 1), moved, x)
        x = moved
    if watch:
        watch(descent.steps, x)
    if descent.sampler != "pgd":
        return x
    with torch.no_grad():
        return pgd.better(x, -energy(x), best, height)[0]


def _rule(descent: Descent, start: Tensor, rng: Rng) -> Rule:
    """Return what makes of images and the slopes of their energies the next images."""
    if descent.sampler == "sgld":
        return _langevin(descent, rng)
    ball = pgd.L2(descent.eps)

    def ascent(x: Tensor, slope: Tensor) -> Tensor:
        return (x + ball.step(-slope, descent.step_size)).clamp_(0, 1)

    def bounded(x: Tensor, slope: Tensor) -> Tensor:
        moved = x + ball.step(-slope, descent.step_size)
        return ball.project(moved, start).clamp_(0, 1)

    return ascent if descent.sampler == "ascent" else bounded


def _langevin(descent: Descent, rng: Rng) -> Rule:
    velocity: Tensor | None = None

    def rule(x: Tensor, slope: Tensor) -> Tensor:
        nonlocal velocity
        if descent.clip:
            slope = slope.clamp(-descent.clip, descent.clip)
        if descent.momentum:
            slope = slope if velocity is None else slope.add(velocity, alpha=descent.momentum)
            velocity = slope
        return langevin_step(x, slope, descent.step_size, descent.noise, rng)

    return rule
