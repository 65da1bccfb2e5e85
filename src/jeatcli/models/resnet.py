"""`resnet-18`: Pre-activation residual network with a CIFAR stem (He et al. 2016b).

Module names are those of the published PreActResNet-18 for CIFAR (Wong et al. 2020, Rice et al.
2020, RobustBench), so that their state dicts load.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ._shape import Shape


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
        ahead = self.act(self.bn1(x))
        aside = self.shortcut(ahead) if hasattr(self, "shortcut") else x
        residual: Tensor = self.conv2(self.act(self.bn2(self.conv1(ahead)))) + aside
        return residual


class PreActResNet(nn.Module):
    """Four stages of pre-activation blocks of 64, 128, 256 and 512 channels."""

    def __init__(self, shape: Shape, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape.image[0], 64, 3, 1, 1, bias=False)
        inputs = 64
        for stage, count in enumerate(blocks):
            outputs = 64 << stage
            layers = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                layers.append(PreActBlock(shape, inputs, outputs, stride))
                inputs = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.bn = shape.norm(inputs)
        self.act = shape.act()
        self.linear = nn.Linear(inputs, shape.classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return F.adaptive_avg_pool2d(self.act(self.bn(x)), 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def make(shape: Shape) -> nn.Module:
    """Build the 18-layer network."""
    net = PreActResNet(shape, (2, 2, 2, 2))
    if shape.norm_layer == "none":
        tame_residuals(net)
    return net


def tame_residuals(net: nn.Module) -> None:
    """Start every residual branch at zero, so that depth without normalisation is stable.

    (Zhang et al. 2019, Fixup, whose one indispensable rule this is.)
    """
    for module in net.modules():
        if isinstance(branch := getattr(module, "conv2", None), nn.Conv2d):
            nn.init.zeros_(branch.weight)
