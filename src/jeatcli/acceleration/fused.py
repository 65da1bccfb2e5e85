"""The library's convolutions on a CPU with the sum and the ReLU after them in the same pass.

oneDNN has them as post-operations, which torch's own compiler uses too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from .native.after import After, last
from .native.finish import finish
from .swapped import SwappedConv

_UNARY = "_convolution_pointwise"
_ONES = [1, 1]
_LAST = torch.channels_last


class FusedConv(SwappedConv):
    """A convolution of the library's, one that is `fusible`.

    oneDNN's ReLU makes 0 of NaN: whether a network is sound is seen in itself.
    """

    is_kernel = False

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__(conv, dtype)
        self.weight: Tensor
        self.bias: Tensor | None
        weight = conv.weight.detach().to(dtype, memory_format=_LAST, copy=True)
        bias = None if conv.bias is None else conv.bias.detach().to(dtype, copy=True)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    @torch.no_grad()
    def refresh(self) -> None:
        self.weight.copy_(self.conv.weight)
        if self.bias is not None:
            assert self.conv.bias is not None
            self.bias.copy_(self.conv.bias)

    def run(self, x: Tensor, after: After) -> Tensor:
        run, relu = getattr(torch.ops.mkldnn, _UNARY), "relu" if after.relu else None
        given = (x, self.weight, self.bias, self.padding, self.stride, _ONES, 1)
        out: Tensor
        if after.residual is None:
            out = run(*given, relu or "none", [], "")
        else:
            x, *others = given
            out = run.binary(x, after.residual, *others, "add", 1.0, relu, [], "")
        return out

    def back(
        self, gradient: Tensor, shape: Sequence[int], x: Tensor | None, after: After
    ) -> Tensor:
        assert x is not None
        given = (self.stride, self.padding, _ONES, False, [0, 0], 1, [True, False, False])
        x = last(x, self.dtype)
        by_x, *_ = torch.ops.aten.convolution_backward(gradient, x, self.weight, None, *given)
        return finish(last(by_x), after)


def fusible(conv: nn.Module, dtype: torch.dtype) -> bool:
    """Return whether the library can add up and cut off, in that type, what this module returns."""
    return (
        type(conv) is nn.Conv2d
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and (conv.dilation, conv.groups) == ((1, 1), 1)
        and (conv.weight.device.type, conv.weight.dtype) == ("cpu", torch.float32)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, _UNARY)
        and fuses_in(dtype)
    )


@cache
def fuses_in(dtype: torch.dtype) -> bool:
    """Return whether the library does so in that type on this processor.

    Of bfloat16 without the instructions it has convolutions, but none with post-operations.
    """
    x = torch.zeros(1, 1, 1, 1, dtype=dtype)
    try:
        getattr(torch.ops.mkldnn, _UNARY)(x, x, None, [0, 0], _ONES, _ONES, 1, "none", [], "")
    except RuntimeError:
        return False
    return True
