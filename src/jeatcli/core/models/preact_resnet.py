"""`resnet-18`: Pre-activation residual network with a CIFAR stem (He et al. 2016b).

Module names are those of the published PreActResNet-18 for CIFAR (Rice et al. 2020), so that its
state dict loads. DeepMind's network of that name (Rebuffi et al. 2021) is another one.
"""

from __future__ import annotations

from torch import Tensor, nn

from .classifier import Network
from .layers import Shape
from .residual import Maker, ResidualNet, zero_init_residual


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each behind its normalisation and activation."""

    def __init__(self, shape: Shape, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = shape.norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = shape.norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.act = shape.act()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn1(x))
        shortcut = self.shortcut(self.projected(x, out)) if hasattr(self, "shortcut") else x
        residual: Tensor = self.conv2(self.act(self.bn2(self.conv1(out)))) + shortcut
        return residual

    def projected(self, x: Tensor, out: Tensor) -> Tensor:
        """Return what the shortcut takes, of the block's input before and after its activation."""
        return out


class PreActResNet(ResidualNet):
    """Four stages of pre-activation blocks, then the activation that the last one still needs.

    Args:
        block: Builds a block.
    """

    def __init__(self, shape: Shape, block: Maker = PreActBlock) -> None:
        super().__init__(shape, block, (64, 128, 256, 512), 2)
        self.bn = shape.norm(512)
        self.act = shape.act()

    def last(self, x: Tensor) -> Tensor:
        """Return what is averaged, of what the last stage gives."""
        out: Tensor = self.act(self.bn(x))
        return out


def make(shape: Shape) -> Network:
    """Build the 18-layer network."""
    return zero_init_residual(PreActResNet(shape), shape)
