"""Stochastic gradient Langevin dynamics on an energy, and the buffer in which chains wait.

The chain is x <- clip(x - a * dE/dx + s * N(0, I), 0, 1) (Welling and Teh 2011; Du and Mordatch
2019). The JEM family (Grathwohl et al. 2020) works in [-1, 1] with a = 1, s = 0.01: in the
[0, 1] pixel scale that is a = 0.25, s = 0.005.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .energy import Hook, PerImage
from .rng import BatchRng, Rng


@dataclass(frozen=True)
class Chain:
    """The settings of a Langevin chain."""

    steps: int
    step_size: float  # a, the factor of the gradient
    noise: float  # s, the standard deviation of a step's noise, in the [0, 1] pixel scale
    # Largest absolute component of the gradient (Yang and Ji 2021 use 1); 0 for no limit.
    clip: float = 0.0
    momentum: float = 0.0  # share of the last step's gradient that is added to this one's


def trained_chain(options: Mapping[str, float], steps: int) -> Chain:
    """Return the chain of a method with these options; where it had none, that of the JEM family.

    Gradients are clipped at 1 there (Yang and Ji 2021).
    """
    sizes = {"sgld_step_size": 0.25, "sgld_noise": 0.005, "sgld_clip": 1.0}
    return Chain(steps, *(options.get(name, usual) for name, usual in sizes.items()))


def langevin(
    energy: PerImage, x: Tensor, chain: Chain, rng: Rng, hook: Hook | None = None
) -> Tensor:
    """Run the chain from x, images (n, C, H, W) in [0, 1], and return where it ends, detached."""
    x, velocity = x.detach(), None
    for step in range(chain.steps):
        x = x.requires_grad_(True)
        values = energy(x)
        (gradient,) = torch.autograd.grad(values.sum(), x)
        x = x.detach()
        if chain.clip:
            gradient = gradient.clamp(-chain.clip, chain.clip)
        if chain.momentum:
            if velocity is not None:
                gradient = gradient.add(velocity, alpha=chain.momentum)
            velocity = gradient
        moved = x.sub(gradient, alpha=chain.step_size)
        if chain.noise:
            moved = moved.add_(rng.normal(x), alpha=chain.noise)
        moved.clamp_(0, 1)
        after = hook(step, x, moved, values.detach()) if hook else moved
        if after is None:
            return x
        x = after
    return x


def replayed(
    buffer: Tensor, initial: Tensor, reinit: float, rng: BatchRng
) -> tuple[Tensor, Tensor]:
    """Return len(initial) starting points of chains, and their indices in the replay buffer.

    The buffer (size, C, H, W) holds the ends of earlier chains (Tieleman 2008). Each start is a
    random image of it or, with probability `reinit`, that of `initial`. No index is drawn twice:
    with two chains that write to one, threads would decide.
    """
    indices = rng.choice(len(buffer), len(initial))
    restarts = rng.uniform(initial[:, :1, :1, :1]) < reinit
    return torch.where(restarts, initial, buffer[indices]), indices
