"""Measuring one run's energy around images: rises, gradients and curvatures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints.model import Model
from ..core import energy, pgd
from ..core.rng import ImageRng
from ..core.threat import Threat
from .view import attacked, rng_of

# Relative change of an eigenvalue at which power iteration may stop, and where it has to.
_TOLERANCE, _MOST_PRODUCTS = 1e-4, 40


@dataclass(frozen=True)
class Probe:
    """Measures one run around a batch of images."""

    model: Model
    radius: tuple[float, ...]
    directions: int
    unit: float
    threat: Threat
    seed: int

    def __call__(self, x: Tensor, y: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return the measures (n,) and `rises` (n,radii) of images (n,C,H,W) in [0, 1]."""

        def joint(images: Tensor) -> Tensor:
            return energy.joint(self.model.classifier(images), y)

        with torch.no_grad():
            logits = self.model.classifier(x)
        here = energy.joint(logits, y)
        rises, variances = self._random(joint, x, here, rng_of(index, self.seed, 1))
        worst = attacked(
            self.model, x, y, self.threat, rng_of(index, self.seed, 2), objective="joint"
        )
        at_one = self.radius.index(1.0)
        return {
            "energy": here,
            "marginal": energy.marginal(logits),
            "rise": rises[:, at_one],
            "variance": variances[:, at_one],
            "worst": (joint(worst) - here).detach(),
            "gradient": pgd.l2_norm(_gradient(joint, x)).flatten(),
            "curvature": top_eigenvalue(joint, x, rng_of(index, self.seed, 3)),
            "rises": rises,
        }

    def _random(
        self, joint: Callable[[Tensor], Tensor], x: Tensor, here: Tensor, rng: ImageRng
    ) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the rise over random directions, (n,radii) each."""
        length = self.unit * x[0].numel() ** 0.5
        rises = []
        with torch.no_grad():
            for _ in range(self.directions):
                direction = pgd.normalize_l2(rng.normal(x)) * length
                each = [joint(x + radius * direction) - here for radius in self.radius]
                rises.append(torch.stack(each, dim=1))
        found = torch.stack(rises)
        return found.mean(0), found.var(0)


def _gradient(value: Callable[[Tensor], Tensor], x: Tensor, graph: bool = False) -> Tensor:
    if not x.requires_grad:
        x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(x).sum(), x, create_graph=graph)
    return gradient


def top_eigenvalue(value: Callable[[Tensor], Tensor], x: Tensor, rng: ImageRng) -> Tensor:
    """Return the largest eigenvalue of each image's Hessian of `value`, shape (n,).

    Power iteration finds the one of largest size; where that is negative, a second one on the
    Hessian shifted by it finds the largest. A network of piecewise linear layers has Hessian 0.

    Args:
        value: Maps images (n,C,H,W) to (n,); images do not influence one another.
        x: Where, (n,C,H,W).
        rng: Of the first vectors.
    """
    x = x.detach().requires_grad_(True)
    gradient = _gradient(value, x, graph=True)
    if not gradient.requires_grad:
        return x.new_zeros(len(x))

    def product(vector: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(
            (gradient * vector).sum(), x, retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(vector) if found is None else found

    start = pgd.normalize_l2(rng.normal(x.detach()))
    largest = _power(product, start)
    shift = largest.clamp_max(0).view(-1, 1, 1, 1)
    if not (shift < 0).any():
        return largest
    above = _power(lambda vector: product(vector) - shift * vector, start)
    return torch.where(largest < 0, above + largest, largest)


def _power(product: Callable[[Tensor], Tensor], vector: Tensor) -> Tensor:
    """Return each image's eigenvalue of largest size, by Rayleigh quotients."""
    found = vector.new_zeros(len(vector))
    done = torch.zeros_like(found, dtype=torch.bool)
    for _ in range(_MOST_PRODUCTS):
        image = product(vector).detach()
        quotient = (image * vector).flatten(1).sum(1)
        settled = (quotient - found).abs() <= _TOLERANCE * quotient.abs()
        # An image keeps its value once it has settled, whatever the others of its batch need.
        found, done = torch.where(done, found, quotient), done | settled
        if done.all():
            break
        vector = pgd.normalize_l2(image)
    return found
