"""How many images go through a network together, so that its layers find them in the caches."""

from __future__ import annotations

import torch

# A piece has so many images, since each reads all weights, or more: so many that a layer's result
# fills a thread's share of the caches, in bytes.
IMAGES = 64
CACHE = 6 << 20
# Of blocks of memory as large as this none is kept for the next layer (`runtime.freed_memory`): a
# piece has fewer images than fill one, but so many.
BLOCK, LEAST = 32 << 20, 8


def together(largest: int) -> int:
    """Return how many images to take at once, whose largest result of a layer has these bytes."""
    fit = torch.get_num_threads() * CACHE // largest
    return min(max(IMAGES, fit), max(LEAST, (BLOCK - 1) // largest))
