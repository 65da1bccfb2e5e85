"""`cifar-resnet-N`: The small residual network for CIFAR, of depth N = 6n + 2 (He et al. 2016a).

N is 20, 32, 44, 56 or 110 in the paper: 0.27 to 1.7 million weights. Module names are those of
Idelbayev's implementation, whose public state dicts load.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageProblem
from .classifier import Network
from .layers import Shape, at_least
from .residual import BasicResNet, count_blocks, zero_init_residual


class ZeroPadding(nn.Module):
    """Every second pixel, with channels of zeros on both sides (option A: no weights)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.channels - before))


def shortcut(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build the way around a block."""
    return nn.Identity() if inputs == outputs else ZeroPadding(outputs - inputs)


def make(shape: Shape, depth: int) -> Network:
    """Build the network of that depth.

    Raises:
        UsageProblem: If the depth is not 6n + 2.
    """
    at_least(f"cifar-resnet-{depth}", "depth", depth, 8)
    if depth % 6 != 2:
        raise UsageProblem(
            f"`cifar-resnet-{depth}` has depth {depth}, which is not 6n + 2",
            f"the nearest is `cifar-resnet-{6 * round((depth - 2) / 6) + 2}`",
        )
    return zero_init_residual(BasicResNet(shape, shortcut, (16, 32, 64), (depth - 2) // 6), shape)


def numbers(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the depth of a network with a state dict of those shapes, if it has stages."""
    count = count_blocks("layer1", shapes)
    return (6 * count + 2,) if count else None
