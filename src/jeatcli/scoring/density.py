"""Density and coverage (Naeem et al. 2020): whether images lie where real ones are dense."""

from __future__ import annotations

import torch
from torch import Tensor

from .features import Features

_NEIGHBOURS = 5
_ROWS = 1000
# A point on a ball's surface is outside, whatever the rounding of its distance.
_INSIDE = 1 - 1e-9


def density_coverage(images: Features, reference: Features) -> dict[str, float]:
    """Return density and coverage by the balls of the fifth neighbours of the reference.

    Density is how many balls of real images a generated one lies in, in units of its expectation
    for real ones, so above 1 for images near the modes; coverage is the share of the real images
    whose ball holds a generated one.
    """
    real, generated = reference.values.double(), images.values.double()
    k = min(_NEIGHBOURS, len(real) - 1)
    radii = torch.cat(
        # The nearest is the image itself.
        [torch.cdist(rows, real).kthvalue(k + 1, dim=1).values for rows in real.split(_ROWS)]
    )
    inside = 0
    covered = torch.zeros(len(real), dtype=torch.bool)
    for rows in generated.split(_ROWS):
        holds: Tensor = torch.cdist(rows, real) < radii * _INSIDE
        inside += int(holds.sum())
        covered |= holds.any(0)
    return {
        "density": inside / (k * len(generated)),
        "coverage": covered.double().mean().item(),
    }
