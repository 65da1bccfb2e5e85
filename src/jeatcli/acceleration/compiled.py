"""A classifier compiled by torch, for a few batch sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..core.models.classifier import Classifier, Network, quieten

# A program for any batch size gains little, one for every size takes minutes. Batches of attacks
# shrink, so they are cut into pieces of these sizes, padded where needed.
SIZES = (256, 64, 16)
# The activations of more than 64 images fit no cache of a processor.
CPU_SIZES = (64, 32, 8)
# The least fill of a padded piece: an image costs more in small pieces than in a large one.
FULL = 5 / 8


class Compiled(Classifier):
    """The same logits, to rounding; the first batch of each size takes seconds to minutes.

    A process has one at a time: an earlier one is compiled again if it is used again.
    """

    def __init__(self, net: Network, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(net, mean, std)
        # torch gives up on a function that it has compiled eight times, whatever the network.
        torch.compiler.reset()
        quieten()
        self._program = torch.compile(super().forward, dynamic=False)

    def forward(self, x: Tensor) -> Tensor:
        if not len(x):
            return super().forward(x)
        if getattr(self.net, "unchecked", False):
            super().forward(x[:4])  # which compares, as a compiled program does not
        return torch.cat([self._program(filled)[:count] for filled, count in pieces(x)])


def pieces(x: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Split images (n, C, H, W) into batches of few sizes; yield each with its number of images.

    Each is the largest size that is nearly filled, padded by images of zeros.
    """
    sizes = CPU_SIZES if x.device.type == "cpu" else SIZES
    first = 0
    while first < len(x):
        left = len(x) - first
        size = next((size for size in sizes if left > FULL * size), sizes[-1])
        count = min(size, left)
        piece = x[first : first + count]
        if count < size:
            piece = nn.functional.pad(piece, (0, 0, 0, 0, 0, 0, 0, size - count))
        yield piece, count
        first += count
