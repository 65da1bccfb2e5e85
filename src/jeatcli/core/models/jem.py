"""The wide residual network of JEM, `jem-wrn-D-W` (Grathwohl et al. 2020).

Convolutions have biases, a block's second one halves the resolution, its projection takes the
input as it is, and the activation is a leaky ReLU. JEM's own weights are without normalisation
(`--norm-layer none`), those of JEM++ (Yang and Ji 2021) with it; pixels lie in [-1, 1] (`--mean .5
--std .5`). Module names are theirs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Network, PixelConv
from .layers import Shape, check_range
from .residual import blocks_in_stage, count_blocks, zero_init_residual

_LEAK = 0.2


def activation(shape: Shape) -> nn.Module:
    """Return the leaky ReLU, or SiLU where that is asked for."""
    return shape.act() if shape.activation == "silu" else nn.LeakyReLU(_LEAK)


class JemBlock(nn.Module):
    """Two 3x3 convolutions, each behind its normalisation and activation."""

    def __init__(self, shape: Shape, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.act = activation(shape)
        self.bn1 = shape.norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.bn2 = shape.norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.act(self.bn1(x)))
        residual: Tensor = self.conv2(self.act(self.bn2(out))) + self.shortcut(x)
        return residual


class JemFeatures(nn.Module):
    """Three stages of `count` blocks, of 16, 32 and 64 times `width` channels."""

    def __init__(self, shape: Shape, count: int, width: int) -> None:
        super().__init__()
        self.conv1 = PixelConv(shape.image[0], 16, 3, 1, 1)
        inputs = 16
        for number, outputs in enumerate((16 * width, 32 * width, 64 * width), 1):
            stride = 1 if number == 1 else 2
            blocks = [JemBlock(shape, inputs, outputs, stride)]
            blocks += [JemBlock(shape, outputs, outputs, 1) for _ in range(count - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = outputs
        self.bn1 = shape.norm(inputs)
        self.act = activation(shape)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return F.adaptive_avg_pool2d(self.act(self.bn1(x)), 1).flatten(1)


class JemWideResNet(Network):
    """The features and the head of the logits; that of the energy alone is not used."""

    foldable = True

    def __init__(self, shape: Shape, count: int, width: int) -> None:
        super().__init__()
        self.f = JemFeatures(shape, count, width)
        self.class_output = nn.Linear(64 * width, shape.classes)
        zero_init_residual(self, shape)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.f(x)
        return features

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.class_output(features)
        return logits


def make_jem_wrn(shape: Shape, depth: int, width: int) -> Network:
    """Build `jem-wrn-D-W` of depth D = 6n + 4 and width W.

    Raises:
        UsageProblem: If the depth is none of these, or the width is 0.
    """
    arch = f"jem-wrn-{depth}-{width}"
    count = blocks_in_stage(arch, depth, 4)
    check_range(arch, "width", width, 1, 256)
    return JemWideResNet(shape, count, width)


def read_depth_and_width(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return depth and width of a `jem-wrn-D-W` with a state dict of those shapes."""
    count = count_blocks("f.layer1", shapes)
    first = shapes.get("f.layer1.0.conv1.weight")
    return (6 * count + 4, first[0] // 16) if first else None
