"""Wide residual networks, `wrn-D-W` (Zagoruyko and Komodakis 2016).

Module names are those of the TRADES implementation, which RobustBench and most published
robust networks use, so that their state dicts load.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Network, PixelConv
from .layers import Shape, check_range, standardised
from .residual import blocks_in_stage, count_blocks, zero_init_residual


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each behind its normalisation and activation."""

    def __init__(self, shape: Shape, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = shape.norm(inputs)
        self.relu1 = shape.act()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = shape.norm(outputs)
        self.relu2 = shape.act()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.equal = inputs == outputs
        if not self.equal:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(x))
        shortcut = x if self.equal else self.convShortcut(out)
        residual: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(out)))) + shortcut
        return residual


class NetworkBlock(nn.Module):
    """A stage: blocks of one width, the first of which may halve the resolution."""

    def __init__(self, shape: Shape, count: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        blocks = [BasicBlock(shape, inputs, outputs, stride)]
        blocks += [BasicBlock(shape, outputs, outputs, 1) for _ in range(count - 1)]
        self.layer = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(Network):
    """Three stages of `count` blocks, of 16, 32 and 64 times `width` channels."""

    foldable = True

    def __init__(self, shape: Shape, count: int, width: int) -> None:
        super().__init__()
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = PixelConv(shape.image[0], channels[0], 3, 1, 1, bias=False)
        self.block1 = NetworkBlock(shape, count, channels[0], channels[1], 1)
        self.block2 = NetworkBlock(shape, count, channels[1], channels[2], 2)
        self.block3 = NetworkBlock(shape, count, channels[2], channels[3], 2)
        self.bn1 = shape.norm(channels[3])
        self.relu = shape.act()
        self.fc = nn.Linear(channels[3], shape.classes)
        zero_init_residual(self, shape)

    def features(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return F.adaptive_avg_pool2d(self.relu(self.bn1(x)), 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.fc(features)
        return logits


class StandardisedWideResNet(WideResNet):
    """The same behind a standardisation of each image by itself."""

    foldable = False

    def features(self, x: Tensor) -> Tensor:
        return super().features(standardised(x))


def make_wrn(
    shape: Shape, depth: int, width: int, kind: type[WideResNet] = WideResNet, name: str = "wrn"
) -> Network:
    """Build `wrn-D-W` of depth D = 6n + 4 and width W.

    Raises:
        UsageProblem: If the depth is none of these, or the width is 0.
    """
    arch = f"{name}-{depth}-{width}"
    count = blocks_in_stage(arch, depth, 4)
    check_range(arch, "width", width, 1, 256)
    return kind(shape, count, width)


make_mma_wrn = partial(make_wrn, kind=StandardisedWideResNet, name="mma-wrn")


def read_depth_and_width(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return depth and width of a `wrn-D-W` with a state dict of those shapes."""
    count = count_blocks("block1.layer", shapes)
    first = shapes.get("block1.layer.0.conv1.weight")
    return (6 * count + 4, first[0] // 16) if first else None
