"""Convolutions on a CPU by Winograd's algorithm, in a quarter of the products.

(Lavin and Gray 2016; nine sixteenths with a stride of 2.) Torch uses it on GPUs, not on CPUs. The
kernel is C++, compiled at first use; without a compiler nothing changes. Its rounding errors are
some ten times those of a sum of products, and a hundredth of bfloat16's. The transformed weights
of a frozen network take eight to eighteen times the memory of the weights.

In bfloat16, where the processor supports it, the tiles are smaller: four ninths of the products
(25 of 36 with a stride of 2), and rounding errors close to bfloat16's own.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from .after import After, empty_as, last
from .kernel import call, kernel, wgrad
from .kernel_conv import KernelConv
from .points import PRODUCTS, backward_weights, forward_weights, wgrad_points

# The functions of the kernel, by type and stride.
_FORWARD = {
    torch.float32: {1: "same", 2: "down"},
    torch.bfloat16: {1: "same_bf16", 2: "down_bf16"},
}
_BACKWARD = {torch.float32: {1: "same", 2: "up"}, torch.bfloat16: {1: "same_bf16", 2: "up_bf16"}}
_WGRAD = {
    torch.float32: {1: "same_wgrad", 2: "down_wgrad"},
    torch.bfloat16: {1: "same_wgrad_bf16", 2: "down_wgrad_bf16"},
}


class WinogradConv(KernelConv):
    """A convolution that `fits`, by Winograd's algorithm.

    Args:
        conv: The convolution; not changed.
        dtype: The type of its arithmetic and its output.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        stride = conv.stride[0]
        super().__init__(conv, dtype, (_FORWARD[dtype][stride], _BACKWARD[dtype][stride]))

    def weights(self) -> tuple[Tensor, Tensor]:
        given = (self.conv.weight, self.stride[0], self.dtype)
        return forward_weights(*given), backward_weights(*given)

    def add(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        # An operator of torch's, which its compiler takes as it is.
        weights = (self.forward_weights, self.backward_weights, self.conv.bias)
        out: Tensor = _convolve(x.to(self.dtype), *weights, residual, self.stride[0], relu)
        return out


class LearningConv(nn.Conv2d):
    """A convolution that `fits`, by Winograd's algorithm, whose weights get a gradient."""

    dtype: torch.dtype

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _learn(x.to(self.dtype), self.weight, self.stride[0])
        return out if self.bias is None else out + self.bias.to(self.dtype)[:, None, None]


def install(net: nn.Module, dtype: torch.dtype = torch.float32, least: int = 0) -> None:
    """Make each fitting convolution of a network a `LearningConv`; weights and names stay."""
    for module in net.modules():
        if type(module) is nn.Conv2d and fits(module, dtype, least):
            # As torch's parametrisations do: references to the module stay valid.
            module.__class__ = LearningConv
            cast(LearningConv, module).dtype = dtype


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
        and hasattr(library, _FORWARD[dtype][conv.stride[0]])
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
    out = _empty(x, _outputs(x, forward_weights, stride), stride)
    if residual is not None:
        assert residual.shape == out.shape
        residual = last(residual)
    after = After(bias, residual, relu=relu)
    return call(_FORWARD[x.dtype][stride], x, forward_weights, out, after)


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
    name, out = _BACKWARD[gradient.dtype][stride], empty_as(x.shape, gradient)
    return call(name, gradient, backward_weights, out)


@torch.library.custom_op(
    "jeat::winograd_training",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, int stride) -> Tensor",
)
def _learn(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    out = _empty(x, len(weight), stride)
    return call(_FORWARD[x.dtype][stride], x, forward_weights(weight, stride, x.dtype), out)


@torch.library.custom_op(
    "jeat::winograd_training_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor weight, int stride) -> Tensor",
)
def _learn_backward(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    out: Tensor = _convolve_backward(gradient, x, backward_weights(weight, stride, x.dtype), stride)
    return out


@torch.library.custom_op(
    "jeat::winograd_wgrad",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor weight, int stride) -> Tensor",
)
def _learn_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    points, (outputs, inputs) = wgrad_points(stride), weight.shape[:2]
    sums = weight.new_empty(len(points), inputs * outputs)
    wgrad(_WGRAD[x.dtype][stride], x, gradient, sums)
    # Autocast would round both factors.
    with torch.autocast("cpu", enabled=False):
        slope = (points.T @ sums).view(3, 3, inputs, outputs).permute(3, 2, 0, 1)
    return torch.empty_like(weight).copy_(slope)


def _outputs(x: Tensor, forward_weights: Tensor, stride: int) -> int:
    """Return the number of output channels of transformed weights, for images x."""
    return forward_weights.numel() // (PRODUCTS[x.dtype][stride] * x.shape[1])


def _empty(x: Tensor, channels: int, stride: int = 1) -> Tensor:
    """Return an uninitialised output with that many channels, channels last."""
    # No view of a tensor: in autograd's eyes what an operator returns could not change in place.
    return empty_as((len(x), channels, *_sides(x, stride)), x)


def _sides(x: Tensor, stride: int) -> tuple[int, ...]:
    return tuple((side + stride - 1) // stride for side in x.shape[2:])


@_convolve.register_fake
def _(x: Tensor, forward_weights: Tensor, *others: Any) -> Tensor:
    stride = others[-2]
    return _empty(x, _outputs(x, forward_weights, stride), stride)


@_learn.register_fake
def _(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return _empty(x, len(weight), stride)


@_convolve_backward.register_fake
@_learn_backward.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return _empty(x, x.shape[1])


@_learn_weight.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return torch.empty_like(weight)


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


def _keep_learning(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.stride = inputs
    ctx.save_for_backward(x, weight)


def _learn_from(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    given, (by_x, by_weight, _) = (gradient, *ctx.saved_tensors, ctx.stride), ctx.needs_input_grad
    # In an attack on the network as it learns, the weights are frozen.
    return (
        _learn_backward(*given) if by_x else None,
        _learn_weight(*given) if by_weight else None,
        None,
    )


_convolve.register_autograd(_differentiate, setup_context=_keep)
_learn.register_autograd(_learn_from, setup_context=_keep_learning)
