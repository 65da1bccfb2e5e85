"""Convolutions that the kernel computes as defined, by it and by torch in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from helpers.convolutions import conv as three
from jeatcli.acceleration.native.after import NOTHING, After, last
from jeatcli.acceleration.native.amx import AmxConv, fits_tiles, has_tiles
from jeatcli.acceleration.native.direct import PointConv, StemConv, direct
from jeatcli.acceleration.swapped import SwappedConv

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


def tiled(side: int, inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> SwappedConv:
    """Return a convolution by the processor's tiles; skip the test where there are none."""
    if not has_tiles():
        pytest.skip("needs g++ and AMX")
    conv = {1: point, 3: three}[side](inputs, outputs, stride=stride, bias=bias)
    conv.weight.copy_(conv.weight.to(HALF))
    assert fits_tiles(conv, HALF)
    return AmxConv(conv)


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


Make = Callable[[], SwappedConv]
_CONVOLUTIONS = {
    "point": partial(point, 32, 48),
    "point-2": partial(point, 32, 48, 2),
    "grey": partial(stem, 1, 48),
    "coloured": partial(stem, 3, 48),
}
# By their channels: of 16 two pixels are side by side in a row of a tile.
_TILED = {
    f"{side}x{side}-of-{inputs}" + f"-{stride}" * (stride > 1): (side, inputs, 48, stride)
    for side in (3, 1)
    for inputs in (16, 32)
    for stride in (1, 2)
}
EVERY: dict[str, Make] = {
    **{
        f"{name}-{str(dtype).removeprefix('torch.')}": lambda make=make, dtype=dtype: swap(
            make(), dtype
        )
        for name, make in _CONVOLUTIONS.items()
        for dtype in ROUNDING
    },
    **{f"tiles-{name}": partial(tiled, *given) for name, given in _TILED.items()},
}
every_kind = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
either_type = pytest.mark.parametrize("dtype", ROUNDING)


def pixels(fast: SwappedConv, *size: int) -> Tensor:
    """Return images, n by height by width, for a convolution."""
    n, *sides = size
    torch.manual_seed(1)
    return last(torch.randn(n, fast.conv.in_channels, *sides), fast.takes)
