"""What the residual networks share: stages of blocks, and the block with its activation last."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Network, PixelConv
from .layers import Shape

# Builds a layer for that many input and output channels, and that stride.
Maker = Callable[[Shape, int, int, int], nn.Module]


class ResidualNet(Network):
    """A convolution, stages of blocks, the mean over the places, and a linear layer.

    The stages are called `layer1`, `layer2`, ...; each but the first halves the resolution.

    Args:
        shape: What the network takes and gives.
        block: Builds a block.
        widths: Channels of each stage.
        count: Blocks in a stage.
    """

    foldable = True

    def __init__(self, shape: Shape, block: Maker, widths: tuple[int, ...], count: int) -> None:
        super().__init__()
        inputs = widths[0]
        self.conv1 = PixelConv(shape.image[0], inputs, 3, 1, 1, bias=False)
        self.stages = [f"layer{number}" for number, _ in enumerate(widths, 1)]
        for name, outputs in zip(self.stages, widths, strict=True):
            stride = 1 if name == "layer1" else 2
            blocks = [block(shape, inputs, outputs, stride)]
            blocks += [block(shape, outputs, outputs, 1) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(*blocks))
            inputs = outputs
        self.linear = nn.Linear(inputs, shape.classes)

    def stem(self, x: Tensor) -> Tensor:
        """Return what the first stage takes."""
        out: Tensor = self.conv1(x)
        return out

    def last(self, x: Tensor) -> Tensor:
        """Return what is averaged, of what the last stage gives."""
        return x

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return F.adaptive_avg_pool2d(self.last(x), 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each before its normalisation, the sum, and an activation.

    Args:
        shortcut: Builds the way around the convolutions.
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
        shortcut: Builds the way around a block's convolutions.
    """

    def __init__(self, shape: Shape, shortcut: Maker, widths: tuple[int, ...], count: int) -> None:
        def block(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module:
            return BasicBlock(shape, inputs, outputs, stride, shortcut)

        super().__init__(shape, block, widths, count)
        self.bn1 = shape.norm(widths[0])
        self.act = shape.act()

    def stem(self, x: Tensor) -> Tensor:
        """Return what the first stage takes."""
        out: Tensor = self.act(self.bn1(self.conv1(x)))
        return out


def zero_init_residual(net: Network, shape: Shape) -> Network:
    """Return the network; every residual branch starts at zero where nothing normalises it.

    So depth without normalisation is stable (Zhang et al. 2019, Fixup, whose one indispensable
    rule this is).
    """
    for module in net.modules() if shape.norm_layer == "none" else ():
        if isinstance(branch := getattr(module, "conv2", None), nn.Conv2d):
            nn.init.zeros_(branch.weight)
    return net


def count_blocks(stage: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many blocks the stage of that name has in a state dict of those shapes."""
    pattern = re.escape(stage) + r"\.\d+\.conv1\.weight"
    return sum(re.fullmatch(pattern, key) is not None for key in shapes)
