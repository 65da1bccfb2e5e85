"""The library's convolutions on a CPU with the sum and the ReLU after them in the same pass.

oneDNN has them as post-operations, which torch's own compiler uses too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_UNARY = "_convolution_pointwise"
_ONES = [1, 1]
_LAST = torch.channels_last


class FusedConv(nn.Module):
    """The same function of images as a convolution, to rounding; its weights get no gradient.

    Args:
        conv: The convolution, one that is `fusible`; not changed.
        dtype: The type of its arithmetic and its output.

    Attributes:
        relu: Whether a ReLU follows, after the sum with the residual if there is one.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv, self.dtype = conv, dtype
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

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return the convolution of x, plus the residual of the same shape, if any."""
        arrays = [
            each if each is None else each.to(self.dtype).contiguous(memory_format=_LAST)
            for each in (x, residual)
        ]
        shape = list(self.conv.stride), [int(side) for side in self.conv.padding]
        out: Tensor = _Convolution.apply(*arrays, self.weight, self.bias, *shape, self.relu)
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
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        relu: bool,
    ) -> Tensor:
        run, shape, after = getattr(torch.ops.mkldnn, _UNARY), (padding, stride, _ONES, 1), "relu"
        if residual is None:
            out = run(x, weight, bias, *shape, after if relu else "none", [], "")
        else:
            rest: tuple[Any, ...] = ("add", 1.0, after if relu else None, [], "")
            out = run.binary(x, residual, weight, bias, *shape, *rest)
        ctx.save_for_backward(x, weight, out if relu else None)
        ctx.shape = stride, padding
        kept: Tensor = out
        return kept

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        if out is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        stride, padding = ctx.shape
        by_x, _, _ = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            None,
            stride,
            padding,
            _ONES,
            False,
            [0, 0],
            1,
            [True, False, False],
        )
        return by_x, gradient if ctx.needs_input_grad[1] else None, None, None, None, None, None
