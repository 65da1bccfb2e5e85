"""Planes through an image, and the energy on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import checkpoint, energy
from .errors import JeatError
from .models import Classifier
from .reporting import Bar


@dataclass(frozen=True)
class Plane:
    """The points x + a d1 + b d2 for a and b in [-span, span].

    Args:
        directions: d1 and d2, (2,C,H,W).
        span: How far the plane goes to each side.
        grid: Points along a side.
    """

    directions: Tensor
    span: float
    grid: int

    @property
    def axis(self) -> Tensor:
        """The values of a, and of b, float64; the middle of an odd number is 0 exactly."""
        half = torch.arange(self.grid, dtype=torch.float64) * 2 - (self.grid - 1)
        return half * (self.span / (self.grid - 1))

    def evaluate(
        self, classifier: Classifier, x: Tensor, label: int, batch_size: int, bar: Bar
    ) -> NDArray[np.float64]:
        """Return E(x + a d1 + b d2, label), row b and column a, from one pass in large batches."""
        device = next(classifier.parameters()).device
        x, directions = x.to(device), self.directions.to(device)
        b, a = torch.meshgrid(self.axis, self.axis, indexing="ij")
        steps = torch.stack([a.flatten(), b.flatten()], dim=1).float().to(device)
        values = []
        with torch.inference_mode():
            for start in range(0, len(steps), batch_size):
                part = steps[start : start + batch_size]
                points = x + torch.einsum("nk,kchw->nchw", part, directions)
                y = torch.full((len(part),), label, device=device)
                values.append(energy.joint(classifier(points), y).double().cpu())
                bar(len(part))
        return torch.cat(values).view(self.grid, self.grid).numpy()

    def share_outside(self, x: Tensor) -> float:
        """Return the share of pixel values on the plane that lie outside [0, 1]."""
        axis = self.axis.float()
        along = x + axis[:, None, None, None] * self.directions[0]
        outside = 0
        for step in axis:
            row = along + step * self.directions[1]
            outside += int(((row < 0) | (row > 1)).sum())
        return outside / (self.grid**2 * x.numel())


@dataclass(frozen=True)
class Panel:
    """One run's energies.

    Args:
        run: Where the run lies.
        name: What it is called.
        method: How it was trained.
        energies: E(x,y) at the grid's points, row b and column a, in the logits' unit.
        centre: E(x,y) at the image itself, which an even grid does not hold.
        prediction: The class that the run gives to the image.
        confidence: Its probability.
    """

    run: str
    name: str
    method: str
    energies: NDArray[np.float64]
    centre: float
    prediction: int
    confidence: float


def survey(
    model: checkpoint.Model, x: Tensor, label: int, plane: Plane, batch_size: int, bar: Bar
) -> Panel:
    """Evaluate one run on `plane` through the image x, (C,H,W) in [0, 1], of class `label`.

    Raises:
        JeatError: If an energy is not finite.
    """
    energies = plane.evaluate(model.classifier, x, label, batch_size, bar)
    if not np.isfinite(energies).all():
        raise JeatError(
            f"the energies of `{model.path}` are not finite on this plane",
            "the run may have diverged, or the plane goes too far: try a smaller `--span`",
        )
    with torch.inference_mode():
        logits = model.classifier(x[None].to(model.device))[0]
    return Panel(
        run=str(model.path),
        name=model.name,
        method=model.meta.method,
        energies=energies,
        centre=-float(logits[label]),
        prediction=int(logits.argmax()),
        confidence=float(logits.softmax(0).max()),
    )


def random_directions(x: Tensor, unit: float, seed: int) -> Tensor:
    """Draw two orthogonal Gaussian directions of per-pixel RMS `unit`, (2, *x.shape).

    They depend on the seed and the shape alone, so every run is cut by the same plane.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, x.numel(), generator=generator, dtype=torch.float64)
    first = first / first.norm()
    second = second - (second @ first) * first
    second = second / second.norm()
    return (torch.stack([first, second]) * unit * math.sqrt(x.numel())).view(2, *x.shape).float()
