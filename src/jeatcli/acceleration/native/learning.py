"""Winograd's convolutions whose weights get a gradient, too."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from .after import After, empty_as
from .convolution import BACKWARD, FORWARD, empty, fits
from .kernel import call, wgrad
from .points import PRODUCTS, backward_weights, forward_weights, weight_gradient

# The functions of the kernel, by type and stride.
_WGRAD = {
    torch.float32: {1: "same_wgrad", 2: "down_wgrad"},
    torch.bfloat16: {1: "same_wgrad_bf16", 2: "down_wgrad_bf16"},
}


class LearningConv(nn.Conv2d):
    """A convolution that `fits`, by Winograd's algorithm, whose weights get a gradient."""

    dtype: torch.dtype

    def forward(self, x: Tensor) -> Tensor:
        if any(each.dtype is not torch.float32 for each in self.parameters()):
            return super().forward(x)  # they may have been changed since
        out: Tensor = _learn(x.to(self.dtype), self.weight, self.bias, self.stride[0])
        return out


def install(net: nn.Module, dtype: torch.dtype = torch.float32, least: int = 0) -> None:
    """Make each fitting convolution of a network a `LearningConv`; weights and names stay."""
    for module in net.modules():
        if type(module) is nn.Conv2d and fits(module, dtype, least):
            # As torch's parametrisations do: references to the module stay valid.
            module.__class__ = LearningConv
            cast(LearningConv, module).dtype = dtype


# As in `convolution`, an operator whose backward pass changes needs another name.
@torch.library.custom_op(
    "jeat::winograd_learning",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias, int stride) -> Tensor",
)
def _learn(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    points = forward_weights(weight, stride, x.dtype)
    after = After(bias=bias)
    return call(FORWARD[x.dtype][stride], x, points, empty(x, len(weight), stride), after)


@torch.library.custom_op(
    "jeat::winograd_training_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor weight, int stride) -> Tensor",
)
def _learn_backward(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    turned = backward_weights(weight, stride, x.dtype)
    return call(BACKWARD[x.dtype][stride], gradient, turned, empty_as(x.shape, gradient))


@torch.library.custom_op(
    "jeat::winograd_wgrad",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor weight, int stride) -> Tensor",
)
def _learn_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    products = PRODUCTS[torch.float32][stride]
    sums = weight.new_empty(products, weight.shape[0] * weight.shape[1])
    wgrad(_WGRAD[x.dtype][stride], x, gradient, sums)
    return weight_gradient(sums, weight, stride)


@_learn.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    return empty(x, len(weight), stride)


@_learn_backward.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return empty(x, x.shape[1])


@_learn_weight.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return torch.empty_like(weight)


def _keep_learning(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.stride = inputs
    ctx.save_for_backward(x, weight)


def _learn_from(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    given = (gradient, *ctx.saved_tensors, ctx.stride)
    by_x, by_weight, by_bias, _ = ctx.needs_input_grad
    # In an attack on the network as it learns, the weights are frozen.
    return (
        _learn_backward(*given) if by_x else None,
        _learn_weight(*given) if by_weight else None,
        gradient.sum((0, 2, 3), dtype=torch.float32) if by_bias else None,
        None,
    )


# The gradients have gradients, of the same operators: each is linear in what it is given.
def _keep_both(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gradient, x, weight, ctx.stride = inputs
    ctx.save_for_backward(gradient, x, weight)


def _from_images(ctx: Any, by_images: Tensor) -> tuple[Tensor | None, ...]:
    (gradient, _, weight), stride = ctx.saved_tensors, ctx.stride
    by_gradient, _, by_weight, _ = ctx.needs_input_grad
    return (
        _learn(by_images, weight, None, stride) if by_gradient else None,
        None,
        _learn_weight(gradient, by_images, weight, stride) if by_weight else None,
        None,
    )


def _from_weight(ctx: Any, by_slope: Tensor) -> tuple[Tensor | None, ...]:
    (gradient, x, _), stride = ctx.saved_tensors, ctx.stride
    by_gradient, by_x, _, _ = ctx.needs_input_grad
    return (
        _learn(x, by_slope, None, stride) if by_gradient else None,
        _learn_backward(gradient, x, by_slope, stride) if by_x else None,
        None,
        None,
    )


_learn.register_autograd(_learn_from, setup_context=_keep_learning)
_learn_backward.register_autograd(_from_images, setup_context=_keep_both)
_learn_weight.register_autograd(_from_weight, setup_context=_keep_both)
