"""The pre-activation networks of Gowal et al. (2020): `dm-wrn-D-W` and `dm-resnet-18`.

They are those of most entries at the top of RobustBench (Rebuffi et al. 2021, Wang et al. 2023),
with their module names. A convolution of stride 2 pads below and to the right alone, and the
projections of `dm-resnet-18` are 3x3 and take a block's input as it is. Most of the published
weights are of `--activation silu`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Network, PixelConv
from .layers import Shape, check_range
from .residual import blocks_in_stage


def pad_same(x: Tensor, stride: int) -> Tensor:
    """Pad images for a 3x3 convolution as TensorFlow's SAME does: of one pixel, none before."""
    if stride == 1:
        return F.pad(x, (1, 1, 1, 1))
    return F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1))


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each behind its normalisation and activation."""

    def __init__(self, shape: Shape, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = shape.norm(inputs)
        self.conv_0 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.batchnorm_1 = shape.norm(outputs)
        self.conv_1 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.act = shape.act()
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.batchnorm_0(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv_0(pad_same(out, self.stride))
        residual: Tensor = self.conv_1(self.act(self.batchnorm_1(out))) + shortcut
        return residual


class WideStage(nn.Module):
    """Blocks of one width, the first of which may halve the resolution."""

    def __init__(self, shape: Shape, count: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        blocks = [WideBlock(shape, inputs, outputs, stride)]
        blocks += [WideBlock(shape, outputs, outputs, 1) for _ in range(count - 1)]
        self.block = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class DeepMindWideResNet(Network):
    """Three stages of `count` blocks, of 16, 32 and 64 times `width` channels."""

    foldable = True

    def __init__(self, shape: Shape, count: int, width: int) -> None:
        super().__init__()
        self.init_conv = PixelConv(shape.image[0], 16, 3, 1, 1, bias=False)
        stages, inputs = [], 16
        for outputs, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            stages.append(WideStage(shape, count, inputs, outputs, stride))
            inputs = outputs
        self.layer = nn.Sequential(*stages)
        self.batchnorm = shape.norm(inputs)
        self.act = shape.act()
        self.logits = nn.Linear(inputs, shape.classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.act(self.batchnorm(self.layer(self.init_conv(x))))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.logits(features)
        return logits


class PreActBlock(nn.Module):
    """Two 3x3 convolutions behind normalisation and activation, and a 3x3 projection."""

    def __init__(self, shape: Shape, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = shape.norm(inputs)
        self.conv_2d_1 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.batchnorm_1 = shape.norm(outputs)
        self.conv_2d_2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.act = shape.act()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 3, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if hasattr(self, "shortcut"):
            shortcut = self.shortcut(pad_same(x, self.stride))
        out = self.conv_2d_1(pad_same(self.act(self.batchnorm_0(x)), self.stride))
        residual: Tensor = self.conv_2d_2(self.act(self.batchnorm_1(out))) + shortcut
        return residual


class DeepMindPreActResNet(Network):
    """Four stages of two blocks."""

    foldable = True

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv_2d = PixelConv(shape.image[0], 64, 3, 1, 1, bias=False)
        inputs = 64
        for number, outputs in enumerate((64, 128, 256, 512)):
            stride = 1 if number == 0 else 2
            blocks = [PreActBlock(shape, inputs, outputs, stride)]
            self.add_module(
                f"layer_{number}", nn.Sequential(*blocks, PreActBlock(shape, outputs, outputs, 1))
            )
            inputs = outputs
        self.batchnorm = shape.norm(inputs)
        self.act = shape.act()
        self.logits = nn.Linear(inputs, shape.classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv_2d(x)
        for number in range(4):
            x = self.get_submodule(f"layer_{number}")(x)
        return F.adaptive_avg_pool2d(self.act(self.batchnorm(x)), 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.logits(features)
        return logits


def make_dm_wrn(shape: Shape, depth: int, width: int) -> Network:
    """Build `dm-wrn-D-W` of depth D = 6n + 4 and width W.

    Raises:
        UsageProblem: If the depth is none of these, or the width is 0.
    """
    arch = f"dm-wrn-{depth}-{width}"
    count = blocks_in_stage(arch, depth, 4)
    check_range(arch, "width", width, 1, 256)
    return DeepMindWideResNet(shape, count, width)


def make_dm_resnet18(shape: Shape) -> Network:
    """Build `dm-resnet-18`."""
    return DeepMindPreActResNet(shape)


def read_depth_and_width(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return depth and width of a `dm-wrn-D-W` with a state dict of those shapes."""
    count = sum(bool(re.fullmatch(r"layer\.0\.block\.\d+\.conv_0\.weight", key)) for key in shapes)
    first = shapes.get("layer.0.block.0.conv_0.weight")
    return (6 * count + 4, first[0] // 16) if first else None
