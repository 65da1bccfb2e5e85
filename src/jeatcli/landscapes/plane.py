"""Planes through an image: directions, points, energies, and the section of a ball."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.models.classifier import Classifier
from ..runtime.progress import Bar
from .view import energy_of


@dataclass(frozen=True)
class Plane:
    """The points x + a d1 + b d2 for a and b in [-span, span], `grid` of them along a side.

    x is an image (C,H,W) in [0, 1], the directions (2,C,H,W) are orthogonal; `clip` brings the
    points back into [0, 1].
    """

    x: Tensor
    directions: Tensor
    span: float
    grid: int
    clip: bool = False

    @property
    def axis(self) -> Tensor:
        """The values of a, and of b, float64; the middle of an odd number is 0 exactly."""
        half = torch.arange(self.grid, dtype=torch.float64, device="cpu") * 2 - (self.grid - 1)
        return half * (self.span / (self.grid - 1))

    def points(self, steps: Tensor) -> Tensor:
        """Return the images (n,C,H,W) at the coordinates (a, b) of `steps` (n,2)."""
        moved = self.x + torch.einsum("nk,kchw->nchw", steps, self.directions)
        return moved.clamp_(0, 1) if self.clip else moved

    def evaluate(
        self, classifier: Classifier, energy: str, label: int, batch_size: int, bar: Bar
    ) -> NDArray[np.float64]:
        """Return the energy, row b and column a, from one pass in large batches."""
        b, a = torch.meshgrid(self.axis, self.axis, indexing="ij")
        steps = torch.stack([a.flatten(), b.flatten()], dim=1).float().to(self.x.device)
        values = []
        with torch.inference_mode():
            for part in torch.split(steps, batch_size):
                y = torch.full((len(part),), label, device=part.device)
                values.append(energy_of(energy, classifier(self.points(part)), y).cpu().double())
                bar(len(part))
        return torch.cat(values).view(self.grid, self.grid).numpy()

    def share_outside(self) -> float:
        """Return the share of pixel values on the plane that lie outside [0, 1]."""
        if self.clip:
            return 0.0
        axis = self.axis.float().to(self.x.device)
        along = self.x + axis[:, None, None, None] * self.directions[0]
        rows = (along + step * self.directions[1] for step in axis)
        outside = sum(int(((row < 0) | (row > 1)).sum()) for row in rows)
        return outside / (self.grid**2 * self.x.numel())

    def section(self, norm: str, radius: float, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where rays at these angles meet the ball's surface, (n,2) of (a, b)."""
        toward = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        directions = self.directions.flatten(1).cpu().double().numpy()
        # Step by step: all of them at once would not fit into memory.
        order = np.inf if norm == "linf" else 2
        lengths = np.stack([np.linalg.norm(step @ directions, order) for step in toward])
        return toward * (radius / lengths)[:, None]

    def inside(self, norm: str, radius: float) -> NDArray[np.bool_]:
        """Return which points of the grid lie in the ball, row b and column a."""
        b, a = np.meshgrid(self.axis.numpy(), self.axis.numpy(), indexing="ij")
        distance = np.hypot(a, b)
        surface = np.hypot(*self.section(norm, radius, np.arctan2(b, a).ravel()).T)
        within: NDArray[np.bool_] = distance <= surface.reshape(distance.shape) * (1 + 1e-6)
        return within


def ball_of_unit(unit: float, unit_norm: str, pixels: int) -> tuple[str, float]:
    """Return norm and radius of the ball that a distance of 1 on the axes reaches."""
    if unit_norm == "linf":
        return "linf", unit
    return "l2", unit * math.sqrt(pixels) if unit_norm == "rms" else unit


def random_directions(x: Tensor, seed: int) -> Tensor:
    """Draw two Gaussian directions (2, *x.shape), float64, from the seed and the shape alone."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, x.numel(), generator=generator, dtype=torch.float64)
    return drawn.view(2, *x.shape)


def orthonormal(directions: Tensor) -> Tensor:
    """Make the second direction orthogonal to the first, and both of l2 length 1, float64.

    Two directions that are parallel, or one of length 0, span no plane: they come back not finite.
    """
    first, second = directions.flatten(1).double()
    first = first / first.norm()
    rest = second - (second @ first) * first
    if rest.norm() <= 1e-9 * second.norm():
        rest = rest * torch.nan
    return torch.stack([first, rest / rest.norm()]).view_as(directions)


def scaled(directions: Tensor, unit: float, unit_norm: str) -> Tensor:
    """Scale orthonormal directions (2,C,H,W) so that each is of size `unit`; return float32."""
    norm, radius = ball_of_unit(unit, unit_norm, directions[0].numel())
    if norm == "l2":
        return (directions * radius).float()
    largest = directions.flatten(1).abs().amax(1)
    return (directions * (radius / largest)[:, None, None, None]).float()
