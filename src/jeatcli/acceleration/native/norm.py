"""Batch normalisation in training on a CPU, with the sum and the activation after it.

Torch takes a pass over memory for each of the three, and more for their gradients.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from ctypes import byref
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import JeatError
from .after import last
from .kernel import kernel

# The kernel's numbers of the activations.
_ACTIVATIONS: dict[type[nn.Module], int] = {nn.Identity: 0, nn.ReLU: 1, nn.SiLU: 2}
_SUFFIX = {torch.float32: "", torch.bfloat16: "_bf16"}


class _Layer(ctypes.Structure):
    """A layer as the kernel reads it; what is not there is null."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("residual", "weight", "bias", "running_mean", "running_var")
        ),
        *((name, ctypes.c_void_p) for name in ("mean", "rate")),
        *((name, ctypes.c_double) for name in ("eps", "momentum")),
        ("activation", ctypes.c_long),
    )


class _Slopes(ctypes.Structure):
    """What a backward pass reads and writes besides."""

    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in ("y", "gradient", "passed", "by_x", "by_weight", "by_bias")
    )


class NormAct(nn.Module):
    """A batch normalisation, the sum with a residual and the activation after it, in one.

    What the kernel cannot do, such as normalisation by running statistics, is done one by one.

    Args:
        norm: One that `fits_norm`; shared, and its running statistics are kept.
        act: What follows: `nn.ReLU`, `nn.SiLU` or, for nothing, `nn.Identity`.
    """

    def __init__(self, norm: nn.BatchNorm2d, act: nn.Module) -> None:
        super().__init__()
        self.norm, self.act = norm, act

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        norm = self.norm
        if not norm.training or not _suits(x, residual, norm):
            out = norm(x) if residual is None else norm(x) + residual
            done: Tensor = self.act(out)
            return done
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        given = norm.weight, norm.bias, norm, _ACTIVATIONS[type(self.act)]
        normalised: Tensor = _NormAct.apply(x, residual, *given)
        return normalised


def fits_norm(norm: nn.Module) -> bool:
    """Return whether the kernel can replace this module here; tries to build it."""
    if not isinstance(norm, nn.BatchNorm2d) or not _is_plain(norm):
        return False
    library = None
    with suppress(JeatError):  # `CXX` is no command
        library = kernel()
    return library is not None and not norm.num_features % library.lanes()


def _is_plain(norm: nn.BatchNorm2d) -> bool:
    """Return whether its numbers lie as the kernel reads them."""
    return norm.momentum is not None and all(
        each is None
        or (each.device.type == "cpu" and each.dtype is torch.float32 and each.is_contiguous())
        for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )


def _suits(x: Tensor, residual: Tensor | None, norm: nn.BatchNorm2d) -> bool:
    """Return whether the kernel takes these, as they are now.

    Torch refuses a single number for each channel, and what has other channels.
    """
    same = residual is None or (residual.shape == x.shape and residual.dtype is x.dtype)
    right = x.dim() == 4 and x.shape[1] == norm.num_features and x.numel() > x.shape[1]
    return same and right and x.dtype in _SUFFIX and x.device.type == "cpu" and _is_plain(norm)


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        norm: nn.BatchNorm2d,
        activation: int,
    ) -> Tensor:
        given, x = x, last(x)
        residual = None if residual is None else last(residual)
        out, means = torch.empty_like(x), torch.empty(2, x.shape[1])
        ctx.norm, ctx.activation = norm, activation
        layer = _layer(ctx, weight, bias, means, residual)
        _run("norm", x, x.data_ptr(), out.data_ptr(), byref(layer))
        # Without a residual the activation's gradient can tell from x what it was given.
        cut = out if residual is not None and activation == _ACTIVATIONS[nn.ReLU] else None
        ctx.save_for_backward(given, weight, bias, means, cut)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return *_differentiable(ctx, gradient), None, None
        x, weight, bias, means, cut = ctx.saved_tensors
        x, gradient = last(x), last(gradient, x.dtype)
        by_x = torch.empty_like(x)
        by_channels, passed = torch.empty_like(means), gradient
        if cut is not None:
            passed = torch.empty_like(x)
        elif ctx.activation == _ACTIVATIONS[nn.SiLU]:
            passed = by_x  # which takes longer to compute twice than to keep
        kept = None if passed is gradient else passed.data_ptr()
        layer = _layer(ctx, weight, bias, means)
        y = None if cut is None else cut.data_ptr()
        channels = (each.data_ptr() for each in by_channels)
        slopes = _Slopes(y, gradient.data_ptr(), kept, by_x.data_ptr(), *channels)
        _run("norm_back", x, x.data_ptr(), byref(layer), byref(slopes))
        wanted = ctx.needs_input_grad
        given = (by_x, passed, *by_channels)
        asked = (each if want else None for each, want in zip(given, wanted, strict=False))
        return *asked, None, None


def _differentiable(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Return the same gradients by torch, so that they have gradients themselves."""
    x, weight, bias, _, cut = ctx.saved_tensors
    wide = x.float()
    variance, mean = torch.var_mean(wide, (0, 2, 3), correction=0, keepdim=True)
    rate = (variance + ctx.norm.eps).rsqrt()
    normal = (wide - mean) * rate
    scaled = normal if weight is None else normal * weight[:, None, None]
    given = scaled if bias is None else scaled + bias[:, None, None]
    passed = gradient.float()
    if ctx.activation == _ACTIVATIONS[nn.ReLU]:
        passed = passed * ((given if cut is None else cut) > 0)
    elif ctx.activation == _ACTIVATIONS[nn.SiLU]:
        share = given.sigmoid()
        passed = passed * share * (1 + given * (1 - share))
    by_weight, by_bias = (passed * normal).sum((0, 2, 3)), passed.sum((0, 2, 3))
    count = x.numel() / x.shape[1]
    lost = (by_bias[:, None, None] + normal * by_weight[:, None, None]) / count
    by_x = (passed - lost) * (rate if weight is None else rate * weight[:, None, None])
    given_all = (by_x.to(x.dtype), passed.to(x.dtype), by_weight, by_bias)
    wanted = zip(given_all, ctx.needs_input_grad, strict=False)
    return tuple(each if want else None for each, want in wanted)


def _layer(
    ctx: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    means: Tensor,
    residual: Tensor | None = None,
) -> _Layer:
    norm = ctx.norm
    tensors = (residual, weight, bias, norm.running_mean, norm.running_var, *means)
    pointers = (None if each is None else each.data_ptr() for each in tensors)
    return _Layer(*pointers, norm.eps, norm.momentum, ctx.activation)


def _run(name: str, x: Tensor, *arguments: object) -> None:
    channels = x.shape[1]
    getattr(kernel(), name + _SUFFIX[x.dtype])(*arguments, x.numel() // channels, channels)
