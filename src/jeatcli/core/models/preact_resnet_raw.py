"""`resnet-18-raw`: `resnet-18` whose projections take a block's input before its activation.

So is the PreActResNet-18 for CIFAR-100 of Rice et al. (2020) in RobustBench. The names are those
of `resnet-18`: a state dict does not tell the two apart, but its accuracy does.
"""

from __future__ import annotations

from torch import Tensor

from .classifier import Network
from .layers import Shape
from .preact_resnet import PreActBlock, PreActResNet
from .residual import zero_init_residual


class RawShortcutBlock(PreActBlock):
    """A pre-activation block whose projection takes the input as it is."""

    def projected(self, x: Tensor, out: Tensor) -> Tensor:
        """Return what the shortcut takes, of the block's input before and after its activation."""
        return x


def make(shape: Shape) -> Network:
    """Build the 18-layer network."""
    return zero_init_residual(PreActResNet(shape, RawShortcutBlock), shape)
