"""Convolutions on a CPU by the kernel that need no algorithm: 1x1, and 3x3 of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from ...core.models.classifier import PixelConv
from ...errors import JeatError
from .after import After, empty_as
from .finish import finish
from .kernel import call, kernel
from .kernel_conv import KernelConv
from .points import point_weights

_SUFFIX = {torch.float32: "", torch.bfloat16: "_bf16"}
# The functions of the kernel, by stride.
_FORWARD, _BACKWARD = {1: "point", 2: "point_down"}, {1: "point", 2: "point_up"}
# The channels of grey and of coloured images.
_CHANNELS = (1, 3)


class PointConv(KernelConv):
    """A convolution of 1x1, of stride 1 or 2."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        names = _FORWARD[conv.stride[0]], _BACKWARD[conv.stride[0]]
        super().__init__(conv, dtype, (names[0] + _SUFFIX[dtype], names[1] + _SUFFIX[dtype]))

    def weights(self) -> tuple[Tensor, Tensor]:
        weight = self.conv.weight
        turned = point_weights(weight.transpose(0, 1), self.dtype)
        return point_weights(weight, self.dtype), turned


class StemConv(KernelConv):
    """A convolution of 3x3 and stride 1 on the pixels, which are in float32, as are its sums."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__(conv, dtype, ("stem" + _SUFFIX[dtype], "stem_back" + _SUFFIX[dtype]))
        self.takes = torch.float32

    def weights(self) -> tuple[Tensor, Tensor]:
        return _stem(self.conv.weight), _stem_back(self.conv.weight)

    def back(
        self, gradient: Tensor, shape: Sequence[int], x: Tensor | None, after: After
    ) -> Tensor:
        out = empty_as(shape, self.backward_weights)
        return finish(call(self.names[1], gradient, self.backward_weights, out), after)


def direct(conv: nn.Module, dtype: torch.dtype) -> type[PointConv | StemConv] | None:
    """Return what of these can replace a module here, if anything; tries to build the kernel."""
    if not isinstance(conv, nn.Conv2d) or dtype not in _SUFFIX:
        return None
    form = (conv.kernel_size, conv.stride, conv.padding)
    point = not isinstance(conv, PixelConv) and form in (
        ((1, 1), (1, 1), (0, 0)),
        ((1, 1), (2, 2), (0, 0)),
    )
    stem = form == ((3, 3), (1, 1), (1, 1)) and conv.in_channels in _CHANNELS
    plain = (conv.padding_mode, conv.dilation, conv.groups) == ("zeros", (1, 1), 1)
    here = (conv.weight.device.type, conv.weight.dtype) == ("cpu", torch.float32)
    library = None
    if (point or stem) and plain and here:
        with suppress(JeatError):  # `CXX` is no command
            library = kernel()
    if library is None or not hasattr(library, "stem" + _SUFFIX[dtype]):
        return None
    channels = (conv.out_channels,) if stem else (conv.in_channels, conv.out_channels)
    if any(count % library.lanes() for count in channels):
        return None
    return StemConv if stem else PointConv


def _stem(weight: Tensor) -> Tensor:
    """Return weights (K, C, 3, 3) for the forward pass: a piece of outputs after the other."""
    by_output = weight.detach().permute(2, 3, 1, 0).flatten(0, 2)
    pieces = by_output.view(len(by_output), -1, _lanes()).transpose(0, 1)
    return pieces.flatten().clone()  # flattened, weights may be the same memory


def _stem_back(weight: Tensor) -> Tensor:
    """Return weights (K, C, 3, 3) for the backward pass: a neighbour after the other."""
    by_channel = weight.detach().flip(2, 3).permute(2, 3, 0, 1)
    return by_channel.reshape(9, -1, _lanes(), weight.shape[1]).transpose(2, 3).flatten()


def _lanes() -> int:
    library = kernel()
    assert library is not None
    lanes: int = library.lanes()
    return lanes
