"""Convolutions on a CPU by Winograd's algorithm, in a quarter of the products.

(Lavin and Gray 2016; nine sixteenths with a stride of 2.) Torch uses it on GPUs, not on CPUs. The
kernel is C++, compiled at first use; without a compiler nothing changes. Its rounding errors are
some ten times those of a sum of products, and a hundredth of bfloat16's. The transformed weights
of a frozen network take eight to eighteen times the memory of the weights.

In bfloat16, where the processor supports it, the tiles are smaller: four ninths of the products
(25 of 36 with a stride of 2), and rounding errors close to bfloat16's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .after import NOTHING, After
from .kernel import kernel
from .points import PRODUCTS, backward_weights, forward_weights

# The functions of the kernel, by type and stride.
_FORWARD = {
    torch.float32: {1: "same", 2: "down"},
    torch.bfloat16: {1: "same_bf16", 2: "down_bf16"},
}
_BACKWARD = {torch.float32: {1: "same", 2: "up"}, torch.bfloat16: {1: "same_bf16", 2: "up_bf16"}}


class WinogradConv(nn.Module):
    """The same function of images as a convolution, to rounding; its weights get no gradient.

    Args:
        conv: The convolution, one that `fits`; not changed.
        dtype: The type of its arithmetic and its output.

    Attributes:
        relu: Whether a ReLU follows, after the sum with the residual if there is one.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.conv, self.dtype = conv, dtype
        self.relu = False
        self.forward_weights: Tensor
        self.backward_weights: Tensor
        self.stride = conv.stride[0]
        self.register_buffer(
            "forward_weights", forward_weights(conv.weight, self.stride, dtype), persistent=False
        )
        self.register_buffer(
            "backward_weights", backward_weights(conv.weight, self.stride, dtype), persistent=False
        )

    @torch.no_grad()
    def refresh(self) -> None:
        """Update the transformed weights after a change of the weights."""
        self.forward_weights.copy_(forward_weights(self.conv.weight, self.stride, self.dtype))
        self.backward_weights.copy_(backward_weights(self.conv.weight, self.stride, self.dtype))

    def run(self, x: Tensor, after: After) -> Tensor:
        """Return the convolution of x, its bias and ReLU, and what else follows; no gradient."""
        after = after._replace(bias=self.conv.bias, relu=self.relu)
        return _run(_FORWARD, self.stride, x, self.forward_weights, self.empty(x), after)

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the result for x."""
        return len(x), self.conv.out_channels, *_sides(x, self.stride)

    def empty(self, x: Tensor) -> Tensor:
        """Return an uninitialised result for x."""
        return _empty(x, self.conv.out_channels, self.stride)

    def back(
        self, gradient: Tensor, shape: Sequence[int], x: Tensor | None, after: After
    ) -> Tensor:
        """Return what follows the gradient by x, of that shape, given that by the result."""
        count, channels, height, width = shape
        out = gradient.new_empty(count, height, width, channels).permute(0, 3, 1, 2)
        return _run(_BACKWARD, self.stride, gradient, self.backward_weights, out, after)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return the convolution of x, plus the residual, if any."""
        weights = (self.forward_weights, self.backward_weights, self.conv.bias)
        if residual is not None:
            residual = residual.to(self.dtype).expand(self.shape(x))
        out: Tensor = _convolve(x.to(self.dtype), *weights, residual, self.stride, self.relu)
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
        residual = _channels_last(residual)
    after = After(bias, residual, relu=relu)
    return _run(_FORWARD, stride, x, forward_weights, out, after)


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
    return _run(_BACKWARD, stride, gradient, backward_weights, _empty(x, x.shape[1]))


@torch.library.custom_op(
    "jeat::winograd_learning",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, int stride) -> Tensor",
)
def _learn(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    out = _empty(x, len(weight), stride)
    return _run(_FORWARD, stride, x, forward_weights(weight, stride, x.dtype), out)


@torch.library.custom_op(
    "jeat::winograd_learning_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor weight, int stride) -> Tensor",
)
def _learn_backward(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    out: Tensor = _convolve_backward(gradient, x, backward_weights(weight, stride, x.dtype), stride)
    return out


def _run(
    names: Mapping[torch.dtype, Mapping[int, str]],
    stride: int,
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    after: After = NOTHING,
) -> Tensor:
    """Call the function of the kernel for this type and stride."""
    x = _channels_last(x)
    height, width = max(x.shape[2:], out.shape[2:])  # the larger ones, with a stride of 2
    run = getattr(kernel(), names[x.dtype][stride])
    pointers = (array.data_ptr() for array in (x, weight, out))
    run(*pointers, after.struct(out), len(x), height, width, x.shape[1], out.shape[1])
    return out


def _outputs(x: Tensor, forward_weights: Tensor, stride: int) -> int:
    """Return the number of output channels of transformed weights, for images x."""
    return forward_weights.numel() // (PRODUCTS[x.dtype][stride] * x.shape[1])


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _empty(x: Tensor, channels: int, stride: int = 1) -> Tensor:
    """Return an uninitialised output with that many channels, channels last."""
    return x.new_empty(len(x), *_sides(x, stride), channels).permute(0, 3, 1, 2)


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


def _learn_from(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    x, weight = ctx.saved_tensors
    strides, ones, none, wanted = [ctx.stride] * 2, [1, 1], [0, 0], [False, True, False]
    _, slope, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight.to(x.dtype), None, strides, ones, ones, False, none, 1, wanted
    )
    return _learn_backward(gradient, x, weight, ctx.stride), slope.to(weight.dtype), None


_convolve.register_autograd(_differentiate, setup_context=_keep)
_learn.register_autograd(_learn_from, setup_context=_keep_learning)
