"""Pre-activation residual networks of 18 layers with a CIFAR stem (He et al. 2016b).

`resnet-18` has the module names of the published PreActResNet-18 for CIFAR (Rice et al. 2020), so
that its state dict loads. `resnet-18-raw` has the same names, as have `-wong` and `-kuangliu`: a
state dict does not tell two of a pair apart, but its accuracy does. DeepMind's is `dm-resnet-18`.
"""

from functools import partial

from torch import Tensor, nn

from .layers import Shape
from .residual import ResidualNet

WIDTHS, COUNTS = (64, 128, 256, 512), (2, 2, 2, 2)


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each behind its normalisation and activation.

    If `raw`, the projection takes the block's input before its activation.
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

    joinable = True

    def __init__(self, shape: Shape, raw: bool = False) -> None:
        super().__init__(shape, partial(PreActBlock, raw=raw), WIDTHS, COUNTS)
        self.bn = shape.norm(WIDTHS[-1])
        self.act = shape.act()

    def last(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(x))
        return out


make_resnet18_raw = partial(PreActResNet, raw=True)  # the code of Wong et al. (2020)
# Without the last normalisation and activation: the PreActResNet18 of pytorch-cifar, MAIR and
# FastAT_Benchmark, and those of Wong et al. (2020) and of Andriushchenko and Flammarion (2020) in
# RobustBench, whose state dict has its first layer twice.
make_resnet18_kuangliu = partial(ResidualNet, block=PreActBlock, widths=WIDTHS, counts=COUNTS)
make_resnet18_wong = partial(make_resnet18_kuangliu, block=partial(PreActBlock, raw=True))
