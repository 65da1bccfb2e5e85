"""Which classes a targeted attack tries."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import Batch
from .surrogate import Search

# Of the standard version of AutoAttack (Croce and Hein 2020a).
TARGETS = 9


@torch.no_grad()
def likeliest(search: Search, batch: Batch) -> Tensor:
    """Return the nine likeliest wrong classes (n, T), or the one class to reach.

    The plain network ranks them: rounding would exchange the last with one that is left out.
    """
    if batch.target is not None:
        return batch.target[:, None]
    search.forward += len(batch)
    logits: Tensor = search.plain(batch.x)
    logits = logits.scatter(1, batch.y[:, None], -torch.inf)
    return logits.topk(min(TARGETS, logits.shape[1] - 1), dim=1).indices
