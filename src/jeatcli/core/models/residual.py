"""What the residual networks share: stages of blocks, and the numbers in a name."""

import re
from collections.abc import Callable, Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageProblem
from . import Shapes
from .classifier import Network, PixelConv
from .layers import Shape, check_range

# Builds a layer for that many input and output channels, and that stride.
Maker = Callable[[Shape, int, int, int], nn.Module]


def stages(
    block: Maker, shape: Shape, counts: Sequence[int], widths: Sequence[int], inputs: int
) -> Iterator[nn.Sequential]:
    """Yield a stage for each count and width; all but the first halve the resolution."""
    stride = 1
    for count, outputs in zip(counts, widths, strict=True):
        blocks = [block(shape, inputs, outputs, stride)]
        blocks += [block(shape, outputs, outputs, 1) for _ in range(count - 1)]
        yield nn.Sequential(*blocks)
        inputs, stride = outputs, 2


class ResidualNet(Network):
    """A convolution, stages of blocks, the mean over the positions, and a linear layer.

    The stages are called `layer1`, `layer2`, ...; each but the first halves the resolution.

    Args:
        shape, block: Its input and output; builds a block.
        widths: Channels of each stage.
        counts: Blocks of each stage.
        stem: Channels of the first convolution; those of the first stage if None.
    """

    foldable = True

    def __init__(
        self,
        shape: Shape,
        block: Maker,
        widths: tuple[int, ...],
        counts: tuple[int, ...],
        stem: int | None = None,
    ) -> None:
        super().__init__()
        inputs = stem or widths[0]
        self.conv1 = PixelConv(shape.image[0], inputs, 3, 1, 1, bias=False)
        self.stages: list[str] = []
        for number, blocks in enumerate(stages(block, shape, counts, widths, inputs), 1):
            self.stages.append(f"layer{number}")
            self.add_module(self.stages[-1], blocks)
        self.linear = nn.Linear(widths[-1], shape.classes)
        zero_init_residual(self, shape)

    def stem(self, x: Tensor) -> Tensor:
        """Return the input of the first stage."""
        out: Tensor = self.conv1(x)
        return out

    def last(self, x: Tensor) -> Tensor:
        """Return the features to be averaged, from the output of the last stage."""
        return x

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return F.adaptive_avg_pool2d(self.last(x), 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits


def zero_init_residual(net: nn.Module, shape: Shape) -> None:
    """Start every residual branch at zero where nothing normalises it.

    Depth without normalisation is stable then (Zhang et al. 2019, Fixup).
    """
    for module in net.modules() if shape.norm_layer == "none" else ():
        if isinstance(branch := getattr(module, "conv2", None), nn.Conv2d):
            nn.init.zeros_(branch.weight)


def blocks_in_stage(arch: str, depth: int, rest: int) -> int:
    """Return n of a network of depth 6n + rest.

    Raises:
        UsageProblem: If the depth is none, with the nearest one.
    """
    check_range(arch, "depth", depth, rest + 6, 2000)
    count, remainder = divmod(depth - rest, 6)
    if remainder:
        nearest = 6 * round((depth - rest) / 6) + rest
        raise UsageProblem(
            f"`{arch}` has depth {depth}, which is not 6n + {rest}",
            f"the nearest is `{arch.replace(str(depth), str(nearest), 1)}`",
        )
    return count


def count_blocks(stage: str, shapes: Shapes, conv: str = "conv1") -> int:
    """Return how many blocks the stage of that name has in a state dict of those shapes."""
    pattern = rf"{re.escape(stage)}\.\d+\.{conv}\.weight"
    return sum(re.fullmatch(pattern, key) is not None for key in shapes)


def wide_stages(block: Maker, shape: Shape, count: int, width: int) -> Iterator[nn.Sequential]:
    """Yield three stages of `count` blocks, of 16, 32 and 64 times `width` channels."""
    return stages(block, shape, (count,) * 3, (16 * width, 32 * width, 64 * width), 16)


def make_wide(
    name: str, build: Callable[[Shape, int, int], Network], shape: Shape, depth: int, width: int
) -> Network:
    """Build the network `NAME-D-W` of depth D = 6n + 4, which has n blocks a stage, and width W.

    Raises:
        UsageProblem: If the depth is none of these, or the width is 0.
    """
    arch = f"{name}-{depth}-{width}"
    count = blocks_in_stage(arch, depth, 4)
    check_range(arch, "width", width, 1, 256)
    return build(shape, count, width)


def read_wide(stage: str, shapes: Shapes, conv: str = "conv1") -> tuple[int, ...] | None:
    """Return depth and width of a wide network, by the name of its first stage; None for others."""
    count, first = count_blocks(stage, shapes, conv), shapes.get(f"{stage}.0.{conv}.weight")
    return (6 * count + 4, first[0] // 16) if first else None
