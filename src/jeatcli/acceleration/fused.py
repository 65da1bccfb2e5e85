"""The library's convolutions on a CPU with the sum and the ReLU after them in the same pass.

oneDNN has them as post-operations, which torch's own compiler uses too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .winograd.after import NOTHING, After, last
from .winograd.finish import finish

_UNARY = "_convolution_pointwise"
_ONES = [1, 1]
_LAST = torch.channels_last


class FusedConv(nn.Module):
    """The same function of images as a convolution, to rounding; its weights get no gradient.

    oneDNN's ReLU makes 0 of NaN: whether a network is sound is seen in itself.

    Args:
        conv: The convolution, one that is `fusible`; not changed.
        dtype: The type of its arithmetic and its output.

    Attributes:
        relu: Whether a ReLU follows, after the sum with the residual if there is one.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv, self.dtype = conv, dtype
        self.stride, self.padding = list(conv.stride), [int(side) for side in conv.padding]
        self.relu = False
        self.weight: Tensor
        self.bias: Tensor | None
        weight = conv.weight.detach().to(dtype, memory_format=_LAST, copy=True)
        bias = None if conv.bias is None else conv.bias.detach().to(dtype, copy=True)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    @torch.no_grad()
    def refresh(self) -> None:
        """Update the weights after a change of those of the convolution."""
        self.weight.copy_(self.conv.weight)
        if self.bias is not None:
            assert self.conv.bias is not None
            self.bias.copy_(self.conv.bias)

    def run(self, x: Tensor, after: After) -> Tensor:
        """Return the convolution of x, and the residual and ReLU after it; no gradient."""
        run, relu = getattr(torch.ops.mkldnn, _UNARY), "relu" if self.relu else None
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
        """Return what follows the gradient by x, given that by the result."""
        assert x is not None
        given = (self.stride, self.padding, _ONES, False, [0, 0], 1, [True, False, False])
        x = last(x, self.dtype)
        by_x, *_ = torch.ops.aten.convolution_backward(gradient, x, self.weight, None, *given)
        return finish(last(by_x), after)

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the result for x."""
        each = zip(x.shape[2:], self.conv.kernel_size, self.stride, self.padding, strict=True)
        sides = ((side + 2 * pad - size) // step + 1 for side, size, step, pad in each)
        return len(x), self.conv.out_channels, *sides

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return the convolution of x, plus the residual, if any."""
        residual = None if residual is None else residual.expand(self.shape(x))
        residual = None if residual is None else last(residual, self.dtype)
        out: Tensor = _Convolution.apply(last(x, self.dtype), residual, self.weight, self)
        return out


def fusible(conv: nn.Module) -> bool:
    """Return whether the library can add up and cut off what this module returns."""
    return (
        type(conv) is nn.Conv2d
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and (conv.dilation, conv.groups) == ((1, 1), 1)
        and (conv.weight.device.type, conv.weight.dtype) == ("cpu", torch.float32)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, _UNARY)
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, conv: FusedConv
    ) -> Tensor:
        out, ctx.conv = conv.run(x, After(residual=residual)), conv
        ctx.save_for_backward(x, weight, out if conv.relu else None)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, _, out = ctx.saved_tensors  # which tells whether the weights have changed since
        if out is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        by_x = ctx.conv.back(gradient, x.shape, x, NOTHING)
        return by_x, gradient if ctx.needs_input_grad[1] else None, None, None
