"""Projected gradient ascent inside a ball: the balls, and the one loop.

Every step takes the gradient with respect to the input alone, moves, projects to the ball and
clips to [0, 1], in that order (Madry et al. 2018). The JEAT family ascends the joint energy
where adversarial training ascends the cross-entropy (Zhu et al. 2021).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .energy import Hook, PerImage
from .rng import Rng
from .threat import NORMS, Threat


class Ball(Protocol):
    """The set of images within `eps` of an image, before the clip to [0, 1]."""

    @property
    def eps(self) -> float:
        """The radius, in the [0, 1] pixel scale."""

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        """Return a random point of the ball around each image of x, clipped to [0, 1]."""

    def on_sphere(self, x: Tensor, rng: Rng) -> Tensor:
        """Return a random point of the ball's surface around each image, clipped to [0, 1]."""

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Return the step along which `gradient` rises most, its size in this norm given."""

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        """Return the point of the ball around x that is nearest to `moved`."""

    def distance(self, moved: Tensor, x: Tensor) -> Tensor:
        """Return the norm of moved - x, shape (n,)."""


@dataclass(frozen=True)
class Linf:
    """The ball of the maximum norm."""

    eps: float

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        return (x + self.eps * (2 * rng.uniform(x) - 1)).clamp_(0, 1)

    def on_sphere(self, x: Tensor, rng: Rng) -> Tensor:
        offset = 2 * rng.uniform(x) - 1
        largest = offset.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return (x + self.eps * offset / largest).clamp_(0, 1)

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        return size * gradient.sign()

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(moved, x + self.eps), x - self.eps)

    def distance(self, moved: Tensor, x: Tensor) -> Tensor:
        return (moved - x).flatten(1).abs().amax(1)


@dataclass(frozen=True)
class L2:
    """The ball of the Euclidean norm."""

    eps: float

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        direction = normalize_l2(rng.normal(x))
        radius = self.eps * rng.uniform(x[:, :1, :1, :1])
        return (x + radius * direction).clamp_(0, 1)

    def on_sphere(self, x: Tensor, rng: Rng) -> Tensor:
        return (x + self.eps * normalize_l2(rng.normal(x))).clamp_(0, 1)

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        return size * normalize_l2(gradient)

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        offset = moved - x
        return x + offset * (self.eps / l2_norm(offset).clamp_min(1e-12)).clamp_max(1.0)

    def distance(self, moved: Tensor, x: Tensor) -> Tensor:
        return l2_norm(moved - x).flatten()


@dataclass(frozen=True)
class L1:
    """The ball of the sum of absolute values; its projection keeps to [0, 1].

    Clipping after a projection to the ball alone would leave the ball half empty (Croce and Hein
    2021).
    """

    eps: float

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        # The signed logarithm of a uniform number is Laplace's: uniform on the sphere.
        offset = 2 * rng.uniform(x) - 1
        offset = -offset.sign() * (1 - offset.abs()).clamp_min(1e-12).log()
        radius = self.eps * rng.uniform(x[:, :1, :1, :1])
        return (x + radius * offset / l1_norm(offset).clamp_min(1e-12)).clamp_(0, 1)

    def on_sphere(self, x: Tensor, rng: Rng) -> Tensor:
        return self.project(x + rng.normal(x), x).clamp_(0, 1)

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Share the step among the hundredth of the pixels that gains most.

        A single pixel would take as many steps as there are pixels (Tramer and Boneh 2019).
        """
        flat = gradient.flatten(1).abs()
        least = flat.topk(max(1, flat.shape[1] // 100)).values[:, -1].view(-1, 1, 1, 1)
        chosen = gradient.sign() * (gradient.abs() >= least)
        return size * chosen / l1_norm(chosen).clamp_min(1)

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        offset = moved - x
        room = torch.where(offset > 0, 1 - x, x)

        def shrunk(by: Tensor) -> Tensor:
            return torch.minimum((offset.abs() - by).clamp_min(0), room)

        # How much is taken from all pixels, by bisection: the size falls as it grows. Float32's
        # rounding of the sum must not leave the ball.
        low = torch.zeros_like(l1_norm(offset))
        high = torch.where(
            l1_norm(shrunk(low)) > self.eps, offset.abs().amax((1, 2, 3), keepdim=True), low
        )
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            outside = l1_norm(shrunk(middle)) > self.eps * (1 - 1e-6)
            low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
        return x + offset.sign() * shrunk(high)

    def distance(self, moved: Tensor, x: Tensor) -> Tensor:
        return l1_norm(moved - x).flatten()


_BISECTIONS = 30


def l1_norm(x: Tensor) -> Tensor:
    """Return the sum of the absolute values of each image of x, shape (n, 1, 1, 1)."""
    return x.abs().sum((1, 2, 3), keepdim=True)


def l2_norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm of each image of x, shape (n, 1, 1, 1)."""
    length: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return length


def normalize_l2(x: Tensor) -> Tensor:
    """Scale each image of x to Euclidean norm 1; an image of zeros stays zero."""
    return x / l2_norm(x).clamp_min(1e-12)


def ball(threat: Threat) -> Ball:
    """Return the ball of a threat model."""
    norm: Callable[[float], Ball] = NORMS.load(threat.norm)
    return norm(threat.eps)


def ascend(
    value: PerImage,
    x: Tensor,
    ball: Ball,
    *,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
    keep_best: bool = False,
    hook: Hook | None = None,
) -> Tensor:
    """Raise `value` inside the ball around x, from `start` or x, by steps of a length in its norm.

    Returns the last iterate, detached, or with `keep_best` each image's iterate of highest value,
    at the price of one more evaluation.
    """
    moved = (x if start is None else start).detach()
    best, highest = moved, x.new_full((len(x),), -torch.inf)
    for step in range(steps):
        here = moved.requires_grad_(True)
        values = value(here)
        (gradient,) = torch.autograd.grad(values.sum(), here)
        here, values = here.detach(), values.detach()
        if keep_best:
            best, highest = better(here, values, best, highest)
        if isinstance(ball, L1):
            gradient = _with_room(gradient, here)
        moved = ball.project(here + ball.step(gradient, step_size), x).clamp_(0, 1)
        after = hook(step, here, moved, values) if hook else moved
        if after is None:
            moved = here
            break
        moved = after
    if not keep_best:
        return moved
    with torch.no_grad():
        return better(moved, value(moved), best, highest)[0]


def _with_room(gradient: Tensor, here: Tensor) -> Tensor:
    """Return the gradient without the pixels that it would push out of [0, 1].

    A sparse step would go to them again and again, and stay where it is.
    """
    pushed = torch.where(gradient > 0, here >= 1, here <= 0)
    return gradient.masked_fill(pushed, 0.0)


def better(moved: Tensor, values: Tensor, best: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    """Return, image by image, whichever of `moved` and `best` has the higher value."""
    rises = values > highest
    # Not the maximum, which is NaN if either is.
    return torch.where(rises.view(-1, 1, 1, 1), moved, best), torch.where(rises, values, highest)
