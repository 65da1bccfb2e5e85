"""Convolutions on a CPU by Winograd's algorithm, in a quarter of the products.

(Lavin and Gray 2016; nine sixteenths with a stride of 2.) Torch uses it on GPUs, not on CPUs. The
kernel is C++, compiled at first use; without a compiler nothing changes. Its rounding errors are
some ten times those of a sum of products, and a hundredth of bfloat16's. The transformed weights
of a frozen network take eight to eighteen times the memory of the weights.

In bfloat16, where the processor supports it, the tiles are smaller: four ninths of the products
(25 of 36 with a stride of 2), and rounding errors close to bfloat16's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from .after import After, empty_as, last
from .kernel import call, kernel
from .kernel_conv import KernelConv
from .points import PRODUCTS, backward_weights, forward_weights

# The functions of the kernel, by type and stride.
FORWARD = {
    torch.float32: {1: "same", 2: "down"},
    torch.bfloat16: {1: "same_bf16", 2: "down_bf16"},
}
BACKWARD = {torch.float32: {1: "same", 2: "up"}, torch.bfloat16: {1: "same_bf16", 2: "up_bf16"}}


class WinogradConv(KernelConv):
    """A convolution that `fits`, by Winograd's algorithm.

    Args:
        conv: The convolution; not changed.
        dtype: The type of its arithmetic and its output.
    """

    has_silu = True

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        stride = conv.stride[0]
        super().__init__(conv, dtype, (FORWARD[dtype][stride], BACKWARD[dtype][stride]))

    def weights(self) -> tuple[Tensor, Tensor]:
        given = (self.conv.weight, self.stride[0], self.dtype)
        return forward_weights(*given), backward_weights(*given)

    def refresh(self) -> None:
        given = (self.conv.weight, self.stride[0], self.dtype)
        forward_weights(*given, out=self.forward_weights)
        backward_weights(*given, out=self.backward_weights)
        increment_version((self.forward_weights, self.backward_weights))

    def add(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        # An operator of torch's, which its compiler takes as it is.
        weights = (self.forward_weights, self.backward_weights, self.conv.bias)
        out: Tensor = _convolve(x.to(self.dtype), *weights, residual, self.stride[0], relu)
        return out


def fits(conv: nn.Module, dtype: torch.dtype = torch.float32, least: int = 0) -> bool:
    """Return whether the kernel can replace this module here; tries to build it once.

    Of fewer than `least` channels, in or out, none is replaced.
    """
    return (
        isinstance(conv, nn.Conv2d)
        and min(conv.in_channels, conv.out_channels) >= least
        and (conv.kernel_size, conv.dilation) == ((3, 3), (1, 1))
        and conv.stride[0] == conv.stride[1]
        and conv.stride[0] in PRODUCTS.get(dtype, ())
        and conv.padding in ((1, 1), "same")
        and (conv.padding_mode, conv.groups) == ("zeros", 1)
        and (conv.weight.device.type, conv.weight.dtype) == ("cpu", torch.float32)
        and (library := kernel()) is not None
        and hasattr(library, FORWARD[dtype][conv.stride[0]])
        and not (conv.in_channels % library.lanes() or conv.out_channels % library.lanes())
    )


# Torch caches compiled code between runs, the backward pass included, by an operator's name and
# arguments: an operator whose backward pass changes needs another name.
@torch.library.custom_op(
    "jeat::winograd",
    mutates_args=(),
    schema="(Tensor x, Tensor forward_weights, Tensor backward_weights, Tensor? bias, "
    "Tensor? residual, int stride, bool relu) -> Tensor",
)
def _convolve(
    x: Tensor,
    forward_weights: Tensor,
    backward_weights: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    stride: int,
    relu: bool,
) -> Tensor:
    out = empty(x, _outputs(x, forward_weights, stride), stride)
    if residual is not None:
        assert residual.shape == out.shape
        residual = last(residual)
    after = After(bias, residual, relu=relu)
    return call(FORWARD[x.dtype][stride], x, forward_weights, out, after)


@torch.library.custom_op(
    "jeat::winograd_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor backward_weights, int stride) -> Tensor",
)
def _convolve_backward(
    gradient: Tensor, x: Tensor, backward_weights: Tensor, stride: int
) -> Tensor:
    # `x` is not read, but given it torch's compiler keeps it, as for any convolution, and reads the
    # mask of the activation off it; else it writes a mask, at ten times the time.
    name, out = BACKWARD[gradient.dtype][stride], empty_as(x.shape, gradient)
    return call(name, gradient, backward_weights, out)


def _outputs(x: Tensor, forward_weights: Tensor, stride: int) -> int:
    """Return the number of output channels of transformed weights, for images x."""
    return forward_weights.numel() // (PRODUCTS[x.dtype][stride] * x.shape[1])


def empty(x: Tensor, channels: int, stride: int = 1) -> Tensor:
    """Return an uninitialised output with that many channels, channels last."""
    # No view of a tensor: in autograd's eyes what an operator returns could not change in place.
    return empty_as((len(x), channels, *_sides(x, stride)), x)


def _sides(x: Tensor, stride: int) -> tuple[int, ...]:
    return tuple((side + stride - 1) // stride for side in x.shape[2:])


@_convolve.register_fake
def _(x: Tensor, forward_weights: Tensor, *others: Any) -> Tensor:
    stride = others[-2]
    return empty(x, _outputs(x, forward_weights, stride), stride)


@_convolve_backward.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return empty(x, x.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, backward_weights, _, _, ctx.stride, relu = inputs
    ctx.save_for_backward(x, output if relu else None, backward_weights)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, out, backward_weights = ctx.saved_tensors
    if out is not None:
        gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
    by_residual = gradient if ctx.needs_input_grad[4] else None
    by_x = _convolve_backward(gradient, x, backward_weights, ctx.stride)
    return by_x, None, None, None, by_residual, None, None


_convolve.register_autograd(_differentiate, setup_context=_keep)
