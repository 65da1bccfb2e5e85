"""Convolutions by matrix tiles (AMX) whose weights get a gradient, too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .after import After, empty_as, last
from .amx import backward_tiles, fits_tiles, forward_tiles, functions
from .kernel import call, wgrad


class LearningTileConv(nn.Conv2d):
    """A convolution that `fits_tiles`, in bfloat16; the library has the gradient by the weights."""

    def forward(self, x: Tensor) -> Tensor:
        given = last(x, torch.bfloat16), self.weight, self.bias, self.stride[0]
        out: Tensor = _TileConv.apply(*given, self.by_weight)
        return out

    @staticmethod
    def by_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Return the gradient by the weights (K, C, s, s), in their type.

        Of that by the result (n, K, h, w) and of the images (n, C, H, W), in bfloat16.
        """
        sides = [stride] * 2, [weight.shape[-1] // 2] * 2, [1, 1], False, [0, 0], 1
        half, asked = weight.to(x.dtype), [False, True, False]
        _, slope, _ = torch.ops.aten.convolution_backward(gradient, x, half, None, *sides, asked)
        found: Tensor = slope.to(weight.dtype)
        return found


class TileWgradConv(LearningTileConv):
    """The same of 3x3, with all gradients by tiles: that by the weights is a sum in float32."""

    @staticmethod
    def by_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        slope = torch.empty_like(weight, memory_format=torch.contiguous_format)
        wgrad({1: "amx_same_wgrad_bf16", 2: "amx_down_wgrad_bf16"}[stride], x, gradient, slope)
        return slope


def fits_wgrad(module: nn.Module) -> bool:
    """Return whether tiles have the gradient by the weights of a module that `fits_tiles`."""
    return isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)


def install_tiles(net: nn.Module, wgrad: bool = False) -> None:
    """Make each fitting convolution of a network one of these; weights and names stay.

    With `wgrad`, tiles have the gradients by the weights, too, where they can.
    """
    for module in net.modules():
        if type(module) is nn.Conv2d and fits_tiles(module, torch.bfloat16):
            kind = TileWgradConv if wgrad and fits_wgrad(module) else LearningTileConv
            module.__class__ = kind  # references to the module stay valid


class _TileConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, by_weight: Any
    ) -> Tensor:
        ctx.stride, ctx.by_weight = stride, by_weight
        ctx.save_for_backward(x, weight)
        sides = ((side + stride - 1) // stride for side in x.shape[2:])
        out = empty_as((len(x), len(weight), *sides), x)
        name, _ = functions(weight.shape[-1], stride)
        return call(name, x, forward_tiles(weight), out, After(bias=bias))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), stride = ctx.saved_tensors, ctx.stride
        by_x, by_weight, by_bias, *_ = ctx.needs_input_grad
        gradient = last(gradient, x.dtype)
        slope = images = None
        if by_x:
            _, name = functions(weight.shape[-1], stride)
            images = call(name, gradient, backward_tiles(weight, stride), torch.empty_like(x))
        if by_weight:
            slope = ctx.by_weight(gradient, x, weight, stride)
        total = gradient.sum((0, 2, 3), dtype=torch.float32) if by_bias else None
        return images, slope, total, None, None
