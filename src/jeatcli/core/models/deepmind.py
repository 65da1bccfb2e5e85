"""The pre-activation networks of Gowal et al. (2020): `dm-wrn-D-W` and `dm-resnet-18`.

They are those of most entries at the top of RobustBench (Rebuffi et al. 2021, Wang et al. 2023),
with their module names. A convolution of stride 2 pads below and to the right alone, and the
projections of `dm-resnet-18` are 3x3 and take a block's input as it is. Most of the published
weights are of `--activation silu`.
"""

from collections import OrderedDict
from functools import partial
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Network, PixelConv
from .layers import Shape
from .residual import make_wide, read_wide, stages, wide_stages


def pad_same(x: Tensor, stride: int) -> Tensor:
    """Pad images for a 3x3 convolution as TensorFlow's SAME does: of one pixel, none before."""
    if stride == 1:
        return F.pad(x, (1, 1, 1, 1))
    return F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1))


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each behind its normalisation and activation."""

    names: ClassVar[tuple[str, str]] = ("conv_0", "conv_1")
    # Whether the projection is 3x3 and takes the input as it is, or 1x1 and takes it activated.
    raw: ClassVar[bool] = False

    def __init__(self, shape: Shape, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        first, second = self.names
        self.batchnorm_0 = shape.norm(inputs)
        self.add_module(first, nn.Conv2d(inputs, outputs, 3, stride, bias=False))
        self.batchnorm_1 = shape.norm(outputs)
        self.add_module(second, nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False))
        self.act = shape.act()
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 3 if self.raw else 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        first, second = map(self.get_submodule, self.names)
        out, shortcut = self.act(self.batchnorm_0(x)), x
        if hasattr(self, "shortcut"):
            shortcut = self.shortcut(pad_same(x, self.stride) if self.raw else out)
        out = first(pad_same(out, self.stride))
        residual: Tensor = second(self.act(self.batchnorm_1(out))) + shortcut
        return residual


class PreActBlock(WideBlock):
    """The same, with the names and the projection of `dm-resnet-18`."""

    names = ("conv_2d_1", "conv_2d_2")
    raw = True


class DeepMindWideResNet(Network):
    """Three stages of `count` blocks, of 16, 32 and 64 times `width` channels."""

    foldable = True
    joinable = True

    def __init__(self, shape: Shape, count: int, width: int) -> None:
        super().__init__()
        self.init_conv = PixelConv(shape.image[0], 16, 3, 1, 1, bias=False)
        all_blocks = wide_stages(WideBlock, shape, count, width)
        self.layer = nn.Sequential(*(nn.Sequential(OrderedDict(block=each)) for each in all_blocks))
        self.batchnorm = shape.norm(64 * width)
        self.act = shape.act()
        self.logits = nn.Linear(64 * width, shape.classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.act(self.batchnorm(self.layer(self.init_conv(x))))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.logits(features)
        return logits


class DeepMindPreActResNet(Network):
    """Four stages of two blocks."""

    foldable = True
    joinable = True

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv_2d = PixelConv(shape.image[0], 64, 3, 1, 1, bias=False)
        widths = (64, 128, 256, 512)
        for number, blocks in enumerate(stages(PreActBlock, shape, (2, 2, 2, 2), widths, 64)):
            self.add_module(f"layer_{number}", blocks)
        self.batchnorm = shape.norm(512)
        self.act = shape.act()
        self.logits = nn.Linear(512, shape.classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv_2d(x)
        for number in range(4):
            x = self.get_submodule(f"layer_{number}")(x)
        return F.adaptive_avg_pool2d(self.act(self.batchnorm(x)), 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.logits(features)
        return logits


make_dm_wrn = partial(make_wide, "dm-wrn", DeepMindWideResNet)
read_depth_and_width = partial(read_wide, "layer.0.block", conv="conv_0")
