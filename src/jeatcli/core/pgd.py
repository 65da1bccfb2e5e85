"""Projected gradient ascent inside a ball: the balls, the objectives, the one loop.

Every step takes the gradient with respect to the input alone, moves, projects to the ball and
clips to [0, 1], in that order (Madry et al. 2018). The JEAT family ascends the joint energy
where adversarial training ascends the cross-entropy (Zhu et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageProblem, unknown
from . import energy
from .rng import Rng
from .threat import Threat

Logits = Callable[[Tensor], Tensor]
PerImage = Callable[[Tensor], Tensor]


class Ball(Protocol):
    """The set of images within `eps` of an image, before the clip to [0, 1]."""

    @property
    def eps(self) -> float:
        """The radius, in the [0, 1] pixel scale."""

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        """Return a random point of the ball around each image of x, clipped to [0, 1]."""

    def edge(self, x: Tensor, rng: Rng) -> Tensor:
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

    def edge(self, x: Tensor, rng: Rng) -> Tensor:
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
        direction = unit(rng.normal(x))
        radius = self.eps * rng.uniform(x[:, :1, :1, :1])
        return (x + radius * direction).clamp_(0, 1)

    def edge(self, x: Tensor, rng: Rng) -> Tensor:
        return (x + self.eps * unit(rng.normal(x))).clamp_(0, 1)

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        return size * unit(gradient)

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        offset = moved - x
        return x + offset * (self.eps / l2_norm(offset).clamp_min(1e-12)).clamp_max(1.0)

    def distance(self, moved: Tensor, x: Tensor) -> Tensor:
        return l2_norm(moved - x).flatten()


def l2_norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm of each image of x, shape (n, 1, 1, 1)."""
    length: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return length


def unit(x: Tensor) -> Tensor:
    """Scale each image of x to Euclidean norm 1; an image of zeros stays zero."""
    return x / l2_norm(x).clamp_min(1e-12)


def ball(threat: Threat) -> Ball:
    """Return the ball of a threat model."""
    return Linf(threat.eps) if threat.norm == "linf" else L2(threat.eps)


# Objectives: what an attack raises. Untargeted forms take the true label, targeted ones the
# class to reach (dlr also the true one). Each maps logits (n, K) to (n,).


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return max_{k != y} f[k] - f[y] (Carlini and Wagner 2017)."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - logits.gather(1, y[:, None]).squeeze(1)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Return the difference of logits ratio (Croce and Hein 2020).

    (max_{k != y} f[k] - f[y]) / (f_(1) - f_(3)), with f_(i) the i-th largest logit.
    """
    ranked = logits.topk(3, dim=1).values
    return margin(logits, y) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return (f[t] - f[y]) / (f_(1) - (f_(3) + f_(4)) / 2) (Croce and Hein 2020)."""
    ranked = logits.topk(4, dim=1).values
    gap = energy.joint(logits, y) - energy.joint(logits, target)
    return gap / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2 + 1e-12)


def kl(logits: Tensor, clean: Tensor) -> Tensor:
    """Return KL(p(.|x) || p(.|x^)) for clean logits of x and logits of x^ (Zhang et al. 2019)."""
    divergence = F.kl_div(
        logits.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True
    )
    return divergence.sum(1)


OBJECTIVES = ("ce", "joint", "marginal", "margin", "dlr", "kl")
_LEAST_CLASSES = {"dlr": 3, "targeted dlr": 4}


def objective(
    name: str, model: Logits, x: Tensor, y: Tensor, target: Tensor | None = None
) -> PerImage:
    """Return the function of the moved images that an attack raises, as `loss` of their logits."""
    value = loss(name, model, x, y, target)
    return lambda moved: value(model(moved))


def loss(name: str, model: Logits, x: Tensor, y: Tensor, target: Tensor | None = None) -> PerImage:
    """Return the function of the moved images' logits that an attack raises.

    Untargeted: `ce` the cross-entropy, `joint` E(x, y), `marginal` E(x), `margin` the
    Carlini-Wagner margin, `dlr` its scale-free form, `kl` the divergence from the clean
    prediction. With a target t: minus the cross-entropy, minus E(x, t), minus E(x), the margin
    of t over the rest, the targeted ratio, minus the divergence from t's one-hot (which is minus
    the cross-entropy).

    Args:
        name: One of `OBJECTIVES`.
        model: Maps images (n, C, H, W) in [0, 1] to logits (n, K).
        x: The clean images; only `kl` evaluates the model there.
        y: True labels (n,).
        target: Labels to reach (n,), or None for an untargeted attack.

    Raises:
        UsageProblem: If there is no such objective.
    """
    if name not in OBJECTIVES:
        raise unknown("objective", name, OBJECTIVES)
    if target is not None:
        return _targeted(name, y, target)
    if name == "kl":
        with torch.no_grad():
            clean = model(x)
        return lambda logits: kl(logits, clean)
    untargeted: dict[str, PerImage] = {
        "ce": lambda logits: energy.cross_entropy(logits, y),
        "joint": lambda logits: energy.joint(logits, y),
        "marginal": energy.marginal,
        "margin": lambda logits: margin(logits, y),
        "dlr": lambda logits: dlr(logits, y),
    }
    return untargeted[name]


def _targeted(name: str, y: Tensor, target: Tensor) -> PerImage:
    if name == "marginal":
        return lambda logits: -energy.marginal(logits)
    if name == "joint":
        return lambda logits: -energy.joint(logits, target)
    if name == "margin":
        return lambda logits: -margin(logits, target)
    if name == "dlr":
        return lambda logits: targeted_dlr(logits, y, target)
    return lambda logits: -energy.cross_entropy(logits, target)


def check_classes(name: str, classes: int, targeted: bool = False) -> None:
    """Refuse an objective that compares more classes than there are.

    Raises:
        UsageProblem: Naming one that does not.
    """
    needed = _LEAST_CLASSES.get(f"targeted {name}" if targeted else name, 2)
    if classes < needed:
        raise UsageProblem(
            f"objective `{name}` needs {needed} classes; there are {classes}",
            "use the objective `margin`",
        )


def ascend(
    value: PerImage,
    x: Tensor,
    ball: Ball,
    *,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
    keep_best: bool = False,
) -> Tensor:
    """Raise `value` inside the ball around x, clipped to [0, 1].

    Args:
        value: Maps images (n, C, H, W) to (n,); images do not influence one another.
        x: Centres of the balls, (n, C, H, W) in [0, 1].
        ball: The threat model.
        steps: Number of gradient steps.
        step_size: Length of a step in the ball's norm, in the [0, 1] pixel scale.
        start: First iterate; x itself if None.
        keep_best: Return each image's iterate of highest value, at the price of one more
            evaluation, instead of the last one.

    Returns:
        The moved images (n, C, H, W), detached.
    """
    moved = (x if start is None else start).detach()
    best, highest = moved, x.new_full((len(x),), -torch.inf)
    for _ in range(steps):
        moved = moved.requires_grad_(True)
        values = value(moved)
        (gradient,) = torch.autograd.grad(values.sum(), moved)
        moved = moved.detach()
        if keep_best:
            best, highest = better(moved, values.detach(), best, highest)
        moved = ball.project(moved + ball.step(gradient, step_size), x).clamp_(0, 1)
    if not keep_best:
        return moved
    with torch.no_grad():
        return better(moved, value(moved), best, highest)[0]


def better(moved: Tensor, values: Tensor, best: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    """Return, image by image, whichever of `moved` and `best` has the higher value."""
    rises = values > highest
    # Not the maximum, which is NaN if either is.
    return torch.where(rises.view(-1, 1, 1, 1), moved, best), torch.where(rises, values, highest)
