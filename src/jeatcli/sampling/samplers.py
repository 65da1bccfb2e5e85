"""The samplers: the core's chain and its ascent, with the settings of `jeat sample`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core import pgd
from ..core.energy import PerImage
from ..core.rng import Rng
from ..core.sgld import Chain, langevin
from .settings import Descent

Hold = Callable[[Tensor], Tensor]
Watch = Callable[[int, Tensor], None]


class Unbounded(pgd.L2):
    """Steps of the Euclidean norm that no radius stops."""

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        return moved


@dataclass(frozen=True)
class StepHook:
    """What happens after each step: pixels are held, images rest, the way is watched.

    Args:
        steps: Of the whole descent.
        stop: An image rests once its energy is as low as this; None for never.
        sign: -1 where what the loop raises is minus the energy.
        hold: Puts back what must not change.
        watch: Called with the number of the step and the images.
    """

    steps: int
    stop: float | None
    sign: int
    hold: Hold | None
    watch: Watch | None

    def __call__(self, step: int, x: Tensor, moved: Tensor, values: Tensor) -> Tensor | None:
        if self.hold:
            moved = self.hold(moved)
        if self.stop is not None:
            going = self.sign * values > self.stop
            if not going.any():
                # All images rest, and are where they are on every step that is left.
                if self.watch:
                    for rest in range(step + 1, self.steps + 1):
                        self.watch(rest, x)
                return None
            moved = torch.where(going.view(-1, 1, 1, 1), moved, x)
        if self.watch:
            self.watch(step + 1, moved)
        return moved


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
    if watch:
        watch(0, start)
    sign = 1 if descent.sampler == "sgld" else -1
    after_step = StepHook(descent.steps, descent.stop, sign, hold, watch)
    if descent.sampler == "sgld":
        chain = Chain(
            descent.steps, descent.step_size, descent.noise, descent.clip, descent.momentum
        )
        return langevin(energy, start, chain, rng, after_step)
    bounded = descent.sampler == "pgd"
    return pgd.ascend(
        lambda x: -energy(x),
        start,
        pgd.L2(descent.eps) if bounded else Unbounded(descent.eps),
        steps=descent.steps,
        step_size=descent.step_size,
        keep_best=bounded,
        hook=after_step,
    )
