"""The original residual networks with a CIFAR stem (He et al. 2016a).

The module names of `resnet-18-v1` are those of pytorch-cifar, MadryLab's robustness and
RobustBench's ResNet, so that the state dicts of their 18 layers load; those of Engstrom et al.
(2019) and Augustin et al. (2020) have 50. Those of `cifar-resnet-N` are Idelbayev's; N is 20, 32,
44, 56 or 110 in the paper, of 0.27 to 1.7 million weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Network
from .layers import Shape
from .residual import Maker, ResidualNet, blocks_in_stage, count_blocks


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each before its normalisation, the sum, and an activation.

    Args:
        shortcut: Builds the shortcut around the convolutions.
    """

    def __init__(
        self, shape: Shape, inputs: int, outputs: int, stride: int, shortcut: Maker
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = shape.norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = shape.norm(outputs)
        self.act = shape.act()
        self.shortcut = shortcut(shape, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        out: Tensor = self.act(residual + self.shortcut(x))
        return out


class BasicResNet(ResidualNet):
    """Stages of basic blocks; the first convolution has a normalisation and an activation too.

    (He et al. 2016a.)

    Args:
        shortcut: Builds the shortcut around a block's convolutions.
    """

    def __init__(self, shape: Shape, shortcut: Maker, widths: tuple[int, ...], count: int) -> None:
        def block(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module:
            return BasicBlock(shape, inputs, outputs, stride, shortcut)

        super().__init__(shape, block, widths, count)
        self.bn1 = shape.norm(widths[0])
        self.act = shape.act()

    def stem(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn1(self.conv1(x)))
        return out


class ZeroPadding(nn.Module):
    """Every second pixel, with channels of zeros on both sides (option A: no weights)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.channels - before))


def padding(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build the shortcut without weights (option A)."""
    return nn.Identity() if inputs == outputs else ZeroPadding(outputs - inputs)


def projection(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build a 1x1 convolution with a normalisation where the shape changes (option B)."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(convolution, shape.norm(outputs))


def make_resnet18_v1(shape: Shape) -> Network:
    """Build `resnet-18-v1`."""
    return BasicResNet(shape, projection, (64, 128, 256, 512), 2)


def make_cifar_resnet(shape: Shape, depth: int) -> Network:
    """Build `cifar-resnet-N` of depth N = 6n + 2.

    Raises:
        UsageProblem: If the depth is none of these.
    """
    count = blocks_in_stage(f"cifar-resnet-{depth}", depth, 2)
    return BasicResNet(shape, padding, (16, 32, 64), count)


def read_depth(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the depth of a `cifar-resnet-N` with a state dict of those shapes."""
    count = count_blocks("layer1", shapes)
    return (6 * count + 2,) if count else None
