"""Convolutions on a CPU in bfloat16 by matrix tiles, on processors that have them (AMX).

3x3 and 1x1, of stride 1 and 2, as sums of products: the processor multiplies matrices of 16 rows of
32 numbers so much faster than vectors that Winograd's algorithm would gain nothing.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor, nn

from ...core.models.classifier import PixelConv
from ...errors import JeatError
from .kernel import kernel
from .kernel_conv import KernelConv

# The functions of the kernel, forward and backward, by the size of the window and the stride.
_FUNCTIONS = {
    (3, 1): ("amx_same_bf16", "amx_same_bf16"),
    (3, 2): ("amx_down_bf16", "amx_up_bf16"),
    (1, 1): ("amx_point_bf16", "amx_point_bf16"),
    (1, 2): ("amx_point_down_bf16", "amx_point_up_bf16"),
}
# Of a tile: outputs side by side, and inputs.
_OUTPUTS, _INPUTS = 16, 32
# With a stride of 2, backward: which weights make pixels of even rows, and of odd ones.
_PARTS = {3: ([1], [2, 0]), 1: ([0],)}


class AmxConv(KernelConv):
    """A convolution that `fits_tiles`, in bfloat16; its sums are in float32."""

    has_silu = True  # while the processor multiplies the next tiles

    def __init__(self, conv: nn.Conv2d) -> None:
        names = functions(conv.kernel_size[0], conv.stride[0])
        super().__init__(conv, torch.bfloat16, names)

    def weights(self) -> tuple[Tensor, Tensor]:
        return forward_tiles(self.conv.weight), backward_tiles(self.conv.weight, self.stride[0])


def functions(size: int, stride: int) -> tuple[str, str]:
    """Return the names of the kernel's functions, forward and backward, of a window's size."""
    return _FUNCTIONS[size, stride]


def fits_tiles(conv: nn.Module, dtype: torch.dtype) -> bool:
    """Return whether tiles can compute this module in that type here; tries to build the kernel."""
    return (
        isinstance(conv, nn.Conv2d)
        and not isinstance(conv, PixelConv)
        and dtype is torch.bfloat16
        and conv.kernel_size[0] == conv.kernel_size[1]
        and conv.stride[0] == conv.stride[1]
        and (conv.kernel_size[0], conv.stride[0]) in _FUNCTIONS
        and conv.padding in ((conv.kernel_size[0] // 2,) * 2, "same")
        and (conv.padding_mode, conv.dilation, conv.groups) == ("zeros", (1, 1), 1)
        and (conv.weight.device.type, conv.weight.dtype) == ("cpu", torch.float32)
        and not (conv.in_channels % _OUTPUTS or conv.out_channels % _OUTPUTS)
        and has_tiles()
    )


@cache
def has_tiles() -> bool:
    """Return whether processor and compiler have tiles, and the system allows them."""
    library = None
    with suppress(JeatError):  # `CXX` is no command
        library = kernel()
    ask = getattr(library, "ask_for_amx", None)
    return ask is not None and bool(ask())


def forward_tiles(weight: Tensor) -> Tensor:
    """Return weights (K, C, s, s) for the forward pass, flat, as the kernel reads them."""
    return _tiles(weight.detach())


def backward_tiles(weight: Tensor, stride: int) -> Tensor:
    """Return weights (K, C, s, s) for the backward pass, flat."""
    turned = weight.detach().transpose(0, 1)
    if stride == 1:
        return _tiles(turned.flip(2, 3))
    kinds = _PARTS[weight.shape[-1]]
    parts = itertools.product(kinds, kinds)
    return torch.cat([_tiles(turned[:, :, down][..., across]) for down, across in parts])


def _tiles(weight: Tensor) -> Tensor:
    """Return weights (K, C, r, s) as tiles, whose rows have two inputs of each of 16 outputs."""
    outputs, inputs, rows, columns = weight.shape
    if (inputs, columns) == (_INPUTS // 2, 3):
        # A row of pixels has two of 16 channels, and the one in the middle comes twice: both times
        # with half its weight, as a weight of zero would make NaN of an infinity.
        first, second, third = weight.permute(3, 0, 2, 1)
        pairs = (torch.cat(each, -1) for each in ((first, second / 2), (second / 2, third)))
        pieces = torch.stack([*pairs], 2)[:, None]
    else:
        planes = -(-inputs // _INPUTS)
        filled = nn.functional.pad(weight, (0, 0, 0, 0, 0, planes * _INPUTS - inputs))
        pieces = filled.view(outputs, planes, _INPUTS, rows, columns).permute(0, 1, 3, 4, 2)
    tiles: Tensor = pieces.to(torch.bfloat16).unflatten(-1, (-1, 2)).unflatten(0, (-1, _OUTPUTS))
    return tiles.permute(0, 2, 3, 4, 5, 1, 6).flatten()
