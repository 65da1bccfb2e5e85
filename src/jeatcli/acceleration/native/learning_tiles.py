"""Convolutions by matrix tiles (AMX) whose weights get a gradient, too: the library's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .after import After, empty_as, last
from .amx import backward_tiles, fits_tiles, forward_tiles, functions
from .kernel import call


class LearningTileConv(nn.Conv2d):
    """A convolution that `fits_tiles`, in bfloat16, whose weights get a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        given = last(x, torch.bfloat16), self.weight, self.bias, self.stride[0]
        out: Tensor = _TileConv.apply(*given)
        return out


def install_tiles(net: nn.Module) -> None:
    """Make each fitting convolution of a network one of these; weights and names stay."""
    for module in net.modules():
        if type(module) is nn.Conv2d and fits_tiles(module, torch.bfloat16):
            module.__class__ = LearningTileConv  # references to the module stay valid


class _TileConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.stride = stride
        ctx.save_for_backward(x, weight)
        sides = ((side + stride - 1) // stride for side in x.shape[2:])
        out = empty_as((len(x), len(weight), *sides), x)
        name, _ = functions(weight.shape[-1], stride)
        return call(name, x, forward_tiles(weight), out, After(bias=bias))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), stride = ctx.saved_tensors, ctx.stride
        size, (by_x, by_weight, by_bias, _) = weight.shape[-1], ctx.needs_input_grad
        gradient = last(gradient, x.dtype)
        slope = images = None
        if by_x:
            _, name = functions(size, stride)
            images = call(name, gradient, backward_tiles(weight, stride), torch.empty_like(x))
        if by_weight:
            sides = [stride] * 2, [size // 2] * 2, [1, 1], False, [0, 0], 1, [False, True, False]
            half = weight.to(x.dtype)
            _, slope, _ = torch.ops.aten.convolution_backward(gradient, x, half, None, *sides)
            slope = slope.to(weight.dtype)
        total = gradient.sum((0, 2, 3), dtype=torch.float32) if by_bias else None
        return images, slope, total, None
