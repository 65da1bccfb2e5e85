"""Wide residual networks, `wrn-D-W` (Zagoruyko and Komodakis 2016).

Module names are those of the TRADES implementation, which RobustBench and most published
robust networks use, so that their state dicts load.
"""

from collections import OrderedDict
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Network, PixelConv
from .layers import Shape, standardised
from .residual import make_wide, read_wide, wide_stages, zero_init_residual


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


class WideResNet(Network):
    """Three stages of `count` blocks, of 16, 32 and 64 times `width` channels."""

    foldable = True
    joinable = True

    def __init__(self, shape: Shape, count: int, width: int) -> None:
        super().__init__()
        self.conv1 = PixelConv(shape.image[0], 16, 3, 1, 1, bias=False)
        for number, blocks in enumerate(wide_stages(BasicBlock, shape, count, width), 1):
            self.add_module(f"block{number}", nn.Sequential(OrderedDict(layer=blocks)))
        self.bn1 = shape.norm(64 * width)
        self.relu = shape.act()
        self.fc = nn.Linear(64 * width, shape.classes)
        zero_init_residual(self, shape)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for name in ("block1", "block2", "block3"):
            x = self.get_submodule(name)(x)
        return F.adaptive_avg_pool2d(self.relu(self.bn1(x)), 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.fc(features)
        return logits


class StandardisedWideResNet(WideResNet):
    """The same behind a standardisation of each image by itself."""

    foldable = False

    def features(self, x: Tensor) -> Tensor:
        return super().features(standardised(x))


make_wrn = partial(make_wide, "wrn", WideResNet)
make_mma_wrn = partial(make_wide, "mma-wrn", StandardisedWideResNet)
read_depth_and_width = partial(read_wide, "block1.layer")
