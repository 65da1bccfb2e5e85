"""Stochastic gradient Langevin dynamics on an energy, and where its chains start.

The chain is x <- clip(x - a * dE/dx + s * N(0, I), 0, 1) (Welling and Teh 2011; Du and Mordatch
2019). The JEM family (Grathwohl et al. 2020) works in [-1, 1] with a = 1, s = 0.01: in the
[0, 1] pixel scale that is a = 0.25, s = 0.005.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .rng import BatchRng, Rng

PerImage = Callable[[Tensor], Tensor]


def langevin(
    energy: PerImage,
    x: Tensor,
    *,
    steps: int,
    step_size: float,
    noise: float,
    rng: Rng,
    clip_gradient: float | None = None,
) -> Tensor:
    """Run the chain from x and return where it ends, detached.

    Args:
        energy: Maps images (n, C, H, W) to energies (n,).
        x: Where the chains start, in [0, 1].
        steps: Number of steps.
        step_size: a, the factor of the gradient.
        noise: s, the standard deviation of the noise of a step, in the [0, 1] pixel scale.
        rng: Source of the noise.
        clip_gradient: Largest absolute value of a component of the gradient (Yang and Ji 2021
            use 1), or None.
    """
    x = x.detach()
    for _ in range(steps):
        x = x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        if clip_gradient is not None:
            gradient = gradient.clamp(-clip_gradient, clip_gradient)
        x = langevin_step(x.detach(), gradient, step_size, noise, rng)
    return x


def langevin_step(x: Tensor, slope: Tensor, step_size: float, noise: float, rng: Rng) -> Tensor:
    """Return clip(x - a * slope + s * N(0, I), 0, 1), where the slope is dE/dx or its momentum."""
    x = x.sub(slope, alpha=step_size)
    if noise:
        x = x.add_(rng.normal(x), alpha=noise)
    return x.clamp_(0, 1)


class ReplayBuffer:
    """The ends of earlier chains, from which later chains go on (Tieleman 2008).

    Args:
        images: The first content, (size, C, H, W) in [0, 1], on the training device.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def draw(self, fresh: Tensor, reinit: float, rng: BatchRng) -> tuple[Tensor, Tensor]:
        """Return len(fresh) starting points and the places that they come from.

        Each is a random image of the buffer or, with probability `reinit`, the image of `fresh`
        in the same place of the batch. No place is drawn twice: two chains that write to one
        would leave it to the threads whose end stays there.
        """
        places = rng.choice(len(self.images), len(fresh))
        anew = rng.uniform(fresh[:, :1, :1, :1]) < reinit
        return torch.where(anew, fresh, self.images[places]), places

    def put(self, x: Tensor, places: Tensor) -> None:
        """Replace the images at `places` by x."""
        self.images[places] = x.detach()


def uniform_start(like: Tensor, rng: Rng) -> Tensor:
    """Return images of uniform noise in [0, 1] (Grathwohl et al. 2020)."""
    return rng.uniform(like)
