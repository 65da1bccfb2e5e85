"""Convolutions of 1x1 and of the pixels, by the kernel and by torch in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from jeatcli.acceleration.swapped import SwappedConv
from jeatcli.acceleration.winograd.after import NOTHING, After, last
from jeatcli.acceleration.winograd.direct import PointConv, StemConv, direct

HALF = torch.bfloat16
# What the type of a result rounds, as a share of a value and of the largest one.
ROUNDING = {torch.float32: (1e-5, 2e-6), HALF: (2**-8, 1e-5)}


def point(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """Return a convolution of 1x1 whose weights are numbers of bfloat16, always the same."""
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=bias).requires_grad_(False)
    conv.weight.copy_(conv.weight.to(HALF))
    return conv


def stem(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """Return a convolution of the pixels, always the same."""
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, 3, 1, 1, bias=bias).requires_grad_(False)


def swap(conv: nn.Conv2d, dtype: torch.dtype = torch.float32) -> SwappedConv:
    """Return what replaces a convolution; skip the test where the processor has no such type."""
    kind = direct(conv, dtype)
    if kind is None and dtype is HALF:
        pytest.skip("needs AVX512-BF16")
    assert kind is (StemConv if conv.kernel_size == (3, 3) else PointConv)
    return kind(conv, dtype)


def close(found: Tensor, exact: Tensor) -> None:
    """Compare each value, to the rounding of its type; what is not finite must be the same."""
    relative, absolute = ROUNDING[found.dtype]
    finite = exact[exact.isfinite()]
    most = finite.abs().max().item() if finite.numel() else 0
    torch.testing.assert_close(
        found.double(), exact, rtol=relative, atol=absolute * most, equal_nan=True
    )


def backward(
    fast: SwappedConv, gradient: Tensor, x: Tensor, after: After = NOTHING
) -> tuple[Tensor, Tensor]:
    """Return the gradient by x of what has that gradient by the result, and the exact one."""
    exact = copy.deepcopy(fast.conv).double()
    given = x.double().requires_grad_()
    (wanted,) = torch.autograd.grad(exact(given), given, gradient.double())
    return fast.back(last(gradient), x.shape, None, after), wanted


def compare(fast: SwappedConv, x: Tensor) -> None:
    """Compare the result, and the gradient by x of a weighted sum of it."""
    x = x.to(fast.takes)
    out = fast.run(last(x), NOTHING)
    exact = copy.deepcopy(fast.conv).double()(x.double())
    assert out.dtype is fast.dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    close(out, exact)
    found, wanted = backward(fast, torch.randn(exact.shape).to(fast.dtype), x)
    assert found.dtype is fast.takes
    assert found.is_contiguous(memory_format=torch.channels_last)
    close(found, wanted)


EVERY = [
    *(lambda d, s=s: swap(point(32, 48, s), d) for s in (1, 2)),
    *(lambda d, c=c: swap(stem(c, 48), d) for c in (1, 3)),
]
NAMES = ["point", "point-2", "grey", "coloured"]
every_kind = pytest.mark.parametrize("make", EVERY, ids=NAMES)
either_type = pytest.mark.parametrize("dtype", ROUNDING)
Make = Callable[[torch.dtype], SwappedConv]


def pixels(fast: SwappedConv, *size: int) -> Tensor:
    """Return images, n by height by width, for a convolution."""
    n, *sides = size
    torch.manual_seed(1)
    return last(torch.randn(n, fast.conv.in_channels, *sides), fast.takes)
