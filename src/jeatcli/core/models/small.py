"""`small`: a few convolutions and a hidden layer, for CPUs.

Without normalisation layers, chains and attacks see the function that training sees; energies
stay smooth with SiLU (Grathwohl et al. 2020 found both to help).
"""

from torch import Tensor, nn

from .classifier import Network, PixelConv
from .layers import Shape


class Small(Network):
    """Two convolutions per resolution, halved down to 4 pixels, then a hidden layer of 256."""

    foldable = True
    joinable = True

    def __init__(self, shape: Shape, width: int = 32) -> None:
        super().__init__()
        channels, height, breadth = shape.image
        layers: list[nn.Module] = []
        outputs = width

        def convolve(inputs: int, outputs: int, stride: int) -> None:
            kind = nn.Conv2d if layers else PixelConv
            layers.append(kind(inputs, outputs, 3, stride, 1))
            layers.extend([shape.norm(outputs), shape.act()])

        convolve(channels, outputs, 1)
        while min(height, breadth) > 4:
            inputs, outputs = outputs, min(2 * outputs, 4 * width)
            height, breadth = -(-height // 2), -(-breadth // 2)
            convolve(inputs, outputs, 2)
            if min(height, breadth) > 4:
                convolve(outputs, outputs, 1)
        self.convs = nn.Sequential(*layers)
        self.hidden = nn.Linear(outputs * height * breadth, 256)
        self.act = shape.act()
        self.linear = nn.Linear(256, shape.classes)
        # Preserve the scale of the signal from layer to layer (He et al. 2015): without
        # normalisation torch's default initialisation shrinks it to nothing in seven layers, and
        # attacks and chains find no gradient.
        for layer in (*self.convs, self.hidden):
            # To draw nothing on the meta device, torch would import its compiler.
            if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.is_meta:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.act(self.hidden(self.convs(x).flatten(1)))
        return features

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits


def make_small(shape: Shape) -> Network:
    """Build `small`, wider for glyphs of 8x8, where it costs nothing."""
    return Small(shape, width=48 if max(shape.image[1:]) <= 16 else 32)
