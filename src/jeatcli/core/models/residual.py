"""What the residual networks share: stages of blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageProblem
from .classifier import Network, PixelConv
from .layers import Shape, check_range

# Builds a layer for that many input and output channels, and that stride.
Maker = Callable[[Shape, int, int, int], nn.Module]


class ResidualNet(Network):
    """A convolution, stages of blocks, the mean over the positions, and a linear layer.

    The stages are called `layer1`, `layer2`, ...; each but the first halves the resolution.

    Args:
        shape: Its input and output.
        block: Builds a block.
        widths: Channels of each stage.
        count: Blocks in a stage, or in each.
        stem: Channels of the first convolution; those of the first stage if None.
    """

    foldable = True

    def __init__(
        self,
        shape: Shape,
        block: Maker,
        widths: tuple[int, ...],
        count: int | tuple[int, ...],
        stem: int | None = None,
    ) -> None:
        super().__init__()
        inputs = stem or widths[0]
        counts = (count,) * len(widths) if isinstance(count, int) else count
        self.conv1 = PixelConv(shape.image[0], inputs, 3, 1, 1, bias=False)
        self.stages = [f"layer{number}" for number, _ in enumerate(widths, 1)]
        for name, outputs, number in zip(self.stages, widths, counts, strict=True):
            stride = 1 if name == "layer1" else 2
            blocks = [block(shape, inputs, outputs, stride)]
            blocks += [block(shape, outputs, outputs, 1) for _ in range(number - 1)]
            self.add_module(name, nn.Sequential(*blocks))
            inputs = outputs
        self.linear = nn.Linear(inputs, shape.classes)
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


def count_blocks(stage: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many blocks the stage of that name has in a state dict of those shapes."""
    pattern = re.escape(stage) + r"\.\d+\.conv1\.weight"
    return sum(re.fullmatch(pattern, key) is not None for key in shapes)
