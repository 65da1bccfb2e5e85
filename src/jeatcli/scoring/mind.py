"""MIND, the Monge Inception Distance (Berthet et al. 2026): features by sorted projections."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .features import Features
from .fidelity import SHUFFLE_SEED
from .intervals import GROUPS, Estimate, group_of, jackknifed

PROJECTIONS = 1000
# Directions at a time: of 50,000 images each takes 400 kB.
_AT_ONCE = 25


def mind(images: Features, reference: Features) -> dict[str, Estimate]:
    """Return 3 d times the mean squared distance of sorted projections on random directions.

    The larger set is subsampled to the size of the other, and directions and subsamples are drawn
    as by torch-fidelity, so that the numbers are the same.
    """
    generator = torch.Generator().manual_seed(SHUFFLE_SEED)
    num = min(len(images.values), len(reference.values))
    ours, theirs = (_subsample(each.values, num, generator) for each in (images, reference))
    width = ours.shape[1]
    directions = normalize(torch.randn(PROJECTIONS, width, generator=generator), dim=1)
    group = group_of(num)
    # Of all images, then of those without each group.
    kept = torch.stack([group >= 0, *(group != k for k in range(min(GROUPS, num)))])
    total = torch.zeros(len(kept), dtype=torch.float64)
    for part in directions.to(ours.dtype).split(_AT_ONCE):
        rows, order = zip(*((each @ part.T).T.sort(dim=1) for each in (ours, theirs)), strict=True)
        for k, keep in enumerate(kept):
            mine, other = (
                row[keep[places]].view(len(part), -1)
                for row, places in zip(rows, order, strict=True)
            )
            total[k] += (mine - other).square().mean(1).sum().double() / PROJECTIONS
    values = (3 * width * total).tolist()
    return {"mind": jackknifed(values[0], values[1:])}


def _subsample(values: Tensor, num: int, generator: torch.Generator) -> Tensor:
    if len(values) == num:
        return values
    return values[torch.randperm(len(values), generator=generator)[:num]]
