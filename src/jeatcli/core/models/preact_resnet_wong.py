"""`resnet-18-wong`: `resnet-18-raw` without the last normalisation and activation.

So are the PreActResNet-18 of Wong et al. (2020) and of Andriushchenko and Flammarion (2020) in
RobustBench. The state dict of the latter has its first layer twice; `matching` knows.
"""

from __future__ import annotations

from .classifier import Network
from .layers import Shape
from .preact_resnet_raw import RawShortcutBlock
from .residual import ResidualNet, zero_init_residual


def make(shape: Shape) -> Network:
    """Build the 18-layer network."""
    return zero_init_residual(ResidualNet(shape, RawShortcutBlock, (64, 128, 256, 512), 2), shape)
