"""Convolutions, and what they and their replacements compute."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn

from jeatcli.acceleration.fused import fusible
from jeatcli.acceleration.native.kernel import kernel

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


def has_bf16_kernel() -> bool:
    """Return whether there is a kernel for bfloat16 here."""
    library = kernel() if shutil.which("g++") else None
    return library is not None and hasattr(library, "same_bf16")


def fuses_in(dtype: torch.dtype | None) -> bool:
    """Return whether the library fuses convolutions in that type here, if in any."""
    return dtype is None or fusible(nn.Conv2d(1, 1, 1), dtype)


def conv(inputs: int, outputs: int, bias: bool = True, stride: int = 1) -> nn.Conv2d:
    """Return a frozen 3x3 convolution, always the same."""
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias).requires_grad_(False)


def both(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a module's outputs and the gradient by the images of a weighted sum of them."""
    x = x.clone().requires_grad_(True)
    out = module(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    return out.detach(), gradient
