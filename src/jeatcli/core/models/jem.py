"""The wide residual network of JEM, `jem-wrn-D-W` (Grathwohl et al. 2020).

Convolutions have biases, a block's second one halves the resolution, its projection takes the
input as it is, and the activation is a leaky ReLU. JEM's own weights are without normalisation
(`--norm-layer none`), those of JEM++ (Yang and Ji 2021) with it; pixels lie in [-1, 1] (`--mean .5
--std .5`). Module names are theirs.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Network, PixelConv
from .layers import Shape
from .residual import make_wide, read_wide, wide_stages, zero_init_residual

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
        for number, blocks in enumerate(wide_stages(JemBlock, shape, count, width), 1):
            self.add_module(f"layer{number}", blocks)
        self.bn1 = shape.norm(64 * width)
        self.act = activation(shape)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return F.adaptive_avg_pool2d(self.act(self.bn1(x)), 1).flatten(1)


class JemWideResNet(Network):
    """The features and the head of the logits; that of the energy alone is not used."""

    foldable = True
    joinable = True

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


make_jem_wrn = partial(make_wide, "jem-wrn", JemWideResNet)
read_depth_and_width = partial(read_wide, "f.layer1")
