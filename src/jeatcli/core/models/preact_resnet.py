"""Pre-activation residual networks of 18 layers with a CIFAR stem (He et al. 2016b).

`resnet-18` has the module names of the published PreActResNet-18 for CIFAR (Rice et al. 2020), so
that its state dict loads. `resnet-18-raw` has the same names, as have `-wong` and `-kuangliu`: a
state dict does not tell two of a pair apart, but its accuracy does. DeepMind's is `dm-resnet-18`.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from .classifier import Network
from .layers import Shape
from .residual import ResidualNet

WIDTHS = (64, 128, 256, 512)


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each behind its normalisation and activation.

    Args:
        raw: Whether the projection takes the block's input before its activation.
    """

    def __init__(
        self, shape: Shape, inputs: int, outputs: int, stride: int, raw: bool = False
    ) -> None:
        super().__init__()
        self.raw = raw
        self.bn1 = shape.norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = shape.norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.act = shape.act()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn1(x))
        shortcut = self.shortcut(x if self.raw else out) if hasattr(self, "shortcut") else x
        residual: Tensor = self.conv2(self.act(self.bn2(self.conv1(out)))) + shortcut
        return residual


class PreActResNet(ResidualNet):
    """Four stages of pre-activation blocks, then the activation that the last one still needs."""

    def __init__(self, shape: Shape, raw: bool = False) -> None:
        super().__init__(shape, partial(PreActBlock, raw=raw), WIDTHS, 2)
        self.bn = shape.norm(WIDTHS[-1])
        self.act = shape.act()

    def last(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(x))
        return out


def make_resnet18(shape: Shape) -> Network:
    """Build `resnet-18`."""
    return PreActResNet(shape)


def make_resnet18_kuangliu(shape: Shape) -> Network:
    """Build `resnet-18-kuangliu`: `resnet-18` without the last normalisation and activation.

    Such is the PreActResNet18 of pytorch-cifar, MAIR and FastAT_Benchmark. Its names are those of
    `resnet-18-wong`, whose projections take a block's input before its activation.
    """
    return ResidualNet(shape, PreActBlock, WIDTHS, 2)


def make_resnet18_raw(shape: Shape) -> Network:
    """Build `resnet-18-raw`, whose projections take a block's input before its activation.

    Such is the PreActResNet-18 of the code of Wong et al. (2020).
    """
    return PreActResNet(shape, raw=True)


def make_resnet18_wong(shape: Shape) -> Network:
    """Build `resnet-18-wong`: `resnet-18-raw` without the last normalisation and activation.

    Such are those of Wong et al. (2020) and of Andriushchenko and Flammarion (2020) in RobustBench;
    the state dict of the latter has its first layer twice.
    """
    return ResidualNet(shape, partial(PreActBlock, raw=True), WIDTHS, 2)
