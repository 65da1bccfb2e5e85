"""Density and coverage (Naeem et al. 2020): whether images lie where real ones are dense."""

import torch

from .features import Features
from .intervals import Estimate, bootstrapped

_NEIGHBOURS = 5
_ROWS = 200
# A point on a ball's surface is outside, whatever the rounding of its distance.
_INSIDE = 1 - 1e-9


def density_coverage(images: Features, reference: Features) -> dict[str, Estimate]:
    """Return density and coverage by the balls of the fifth neighbours of the reference.

    Density is how many balls of real images a generated one lies in, in units of its expectation
    for real ones, so above 1 for images near the modes; coverage is the share of the real images
    whose ball holds a generated one.
    """
    real, generated = reference.values.double(), images.values.double()
    k = min(_NEIGHBOURS, len(real) - 1)
    # The nearest is the image itself.
    nearest = [torch.cdist(rows, real).kthvalue(k + 1, dim=1).values for rows in real.split(_ROWS)]
    radii = torch.cat(nearest) * _INSIDE
    inside, covered = [], torch.zeros(len(real), dtype=torch.bool)
    for rows in generated.split(_ROWS):
        holds = torch.cdist(rows, real) < radii
        inside.append(holds.sum(1))
        covered |= holds.any(0)
    return {
        "density": bootstrapped(torch.cat(inside).double() / k),
        "coverage": bootstrapped(covered),
    }
