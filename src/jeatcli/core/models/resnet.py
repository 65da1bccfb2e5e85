"""The original residual networks with a CIFAR stem (He et al. 2016a).

The module names of `resnet-18-v1`, `-34-v1` and `-50-v1` are those of pytorch-cifar, MadryLab's
robustness and RobustBench's ResNet; Engstrom et al. (2019) and Augustin et al. (2020) have 50
layers. Those of `cifar-resnet-N` are Idelbayev's; N is 20, 32, 44, 56 or 110 in the paper, of 0.27
to 1.7 million weights.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from . import Shapes
from .classifier import Network
from .layers import Shape
from .residual import Maker, ResidualNet, blocks_in_stage, count_blocks


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each before its normalisation, the sum, and an activation."""

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


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each before its normalisation; a quarter of the channels."""

    def __init__(self, shape: Shape, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // 4
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = shape.norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = shape.norm(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = shape.norm(outputs)
        self.act = shape.act()
        self.shortcut = projection(shape, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))))
        result: Tensor = self.act(self.bn3(self.conv3(out)) + self.shortcut(x))
        return result


class OriginalResNet(ResidualNet):
    """Stages of blocks that end in an activation, as the stem does (He et al. 2016a).

    With `pool` a max-pool behind the stem halves the resolution.
    """

    joinable = True

    def __init__(
        self,
        shape: Shape,
        block: Maker,
        widths: tuple[int, ...],
        counts: tuple[int, ...],
        pool: bool = False,
    ) -> None:
        # Bottlenecks give four times the channels that the stem has.
        stem = widths[0] // 4 if block is Bottleneck else widths[0]
        super().__init__(shape, block, widths, counts, stem)
        self.bn1 = shape.norm(stem)
        self.act = shape.act()
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()

    def stem(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.act(self.bn1(self.conv1(x))))
        return out


class ZeroPadding(nn.Module):
    """Every second pixel, with channels of zeros on both sides (option A: no weights)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.channels - before))


def padding(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build the shortcut without weights (option A)."""
    return nn.Identity() if inputs == outputs else ZeroPadding(outputs - inputs)


def projection(shape: Shape, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build a 1x1 convolution with a normalisation where the shape changes (option B)."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(convolution, shape.norm(outputs))


_COUNTS = (3, 4, 6, 3)  # of 34 and of 50 layers
_with_projection = partial(BasicBlock, shortcut=projection)
_with_padding = partial(BasicBlock, shortcut=padding)


make_resnet18_v1 = partial(
    OriginalResNet, block=_with_projection, widths=(64, 128, 256, 512), counts=(2, 2, 2, 2)
)
make_resnet34_v1 = partial(make_resnet18_v1, counts=_COUNTS)
make_resnet50_v1 = partial(
    OriginalResNet, block=Bottleneck, widths=(256, 512, 1024, 2048), counts=_COUNTS
)
# Those of PyTorch_CIFAR10, and of torchvision with a 3x3 convolution in place of its stem.
make_resnet18_v1_pool = partial(make_resnet18_v1, pool=True)
make_resnet34_v1_pool = partial(make_resnet34_v1, pool=True)
make_resnet50_v1_pool = partial(make_resnet50_v1, pool=True)


def make_cifar_resnet(
    shape: Shape, depth: int, block: Maker = _with_padding, name: str = "cifar-resnet"
) -> Network:
    """Build `cifar-resnet-N` of depth N = 6n + 2.

    Raises:
        UsageProblem: If the depth is none of these.
    """
    count = blocks_in_stage(f"{name}-{depth}", depth, 2)
    return OriginalResNet(shape, block, (16, 32, 64), (count, count, count))


# The networks of pytorch-cifar-models.
make_cifar_resnet_b = partial(make_cifar_resnet, block=_with_projection, name="cifar-resnet-b")


def read_depth(shapes: Shapes) -> tuple[int, ...] | None:
    """Return the depth of a `cifar-resnet-N` with a state dict of those shapes."""
    count = count_blocks("layer1", shapes)
    return (6 * count + 2,) if count else None
