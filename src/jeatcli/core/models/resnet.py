"""`resnet-18-v1`: The original residual network with a CIFAR stem (He et al. 2016a).

Module names are those of pytorch-cifar, MadryLab's robustness and RobustBench's ResNet, so that
the state dicts of their 18 layers load. Those of Engstrom et al. (2019) and Augustin et al. (2020)
have 50, and do not.
"""

from __future__ import annotations

from torch import nn

from .classifier import Network
from .layers import Shape
from .residual import BasicResNet, zero_init_residual


def projection(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build a 1x1 convolution with a normalisation where the shape changes (option B)."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(convolution, shape.norm(outputs))


def make(shape: Shape) -> Network:
    """Build the 18-layer network."""
    return zero_init_residual(BasicResNet(shape, projection, (64, 128, 256, 512), 2), shape)
