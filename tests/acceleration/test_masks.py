"""Of a ReLU the kernel keeps a bit for each number, which lets the gradient pass as the result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from helpers.convolutions import conv, has_bf16_kernel, needs_compiler
from helpers.direct import EVERY, HALF, Make, either_type, pixels
from helpers.following import every
from torch import Tensor

from jeatcli.acceleration.native.after import After, bits_as, last
from jeatcli.acceleration.native.convolution import WinogradConv
from jeatcli.acceleration.native.finish import finish
from jeatcli.acceleration.swapped import SwappedConv

pytestmark = [needs_compiler, pytest.mark.usefixtures("tiles")]


def winograd(stride: int, dtype: torch.dtype) -> SwappedConv:
    if dtype is HALF and not has_bf16_kernel():
        pytest.skip("needs AVX512-BF16")
    return WinogradConv(conv(32, 48, stride=stride), dtype)


WINOGRAD: dict[str, Make] = {
    f"winograd-{stride}-{str(dtype).removeprefix('torch.')}": partial(winograd, stride, dtype)
    for stride in (1, 2)
    for dtype in (torch.float32, HALF)
}
KINDS = WINOGRAD | EVERY
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def packed(mask: Tensor) -> Tensor:
    """Return the bits of a mask of images, the channels of a pixel side by side."""
    flat = mask.permute(0, 2, 3, 1).reshape(-1, 8)
    return (flat * 2 ** torch.arange(8)).sum(1).to(torch.uint8)


def odd(x: Tensor) -> Tensor:
    """Return images with numbers among theirs that no comparison expects."""
    flat = x.permute(0, 2, 3, 1).flatten()
    flat[::7], flat[1::11], flat[3::13], flat[5::17] = 0.0, -0.0, torch.nan, torch.inf
    return last(flat.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2))


@every_kind
def test_the_bits_are_those_of_the_last_relu(make: Callable[[], SwappedConv]) -> None:
    fast = make()
    x = pixels(fast, 2, 5, 9)
    for each in every(fast.empty(x), ("residual", "too", "scale_too")):
        bits = bits_as(fast.shape(x), x.device)
        after = each._replace(relu=each.too is None, positive=bits)
        if after.residual is not None:
            after = after._replace(residual=odd(after.residual))
        out = fast.run(x, after)
        result = out if after.too is None else after.too
        assert torch.equal(bits, packed(~(result <= 0)))
        assert (result > 0).any()
        assert (result <= 0).any()


@every_kind
def test_what_has_no_bit_becomes_zero(make: Callable[[], SwappedConv]) -> None:
    fast = make()
    x = pixels(fast, 2, 5, 9)
    if x.shape[1] % 16:
        pytest.skip("no ReLU comes before the pixels")
    gradient = last(torch.randn(fast.shape(x)), fast.dtype)
    for after in every(x, ("residual", "cut", "scale", "more")):
        if after.cut is None:
            continue
        cut = odd(after.cut)
        expected = fast.back(gradient, x.shape, None, after._replace(cut=cut))
        masked = after._replace(cut=None, mask=packed(~(cut <= 0)))
        assert torch.equal(fast.back(gradient, x.shape, None, masked), expected)


@either_type
def test_the_bits_of_a_gradient_that_no_convolution_makes(dtype: torch.dtype) -> None:
    if dtype is HALF and not has_bf16_kernel():
        pytest.skip("needs AVX512-BF16")
    x, cut = (last(torch.randn(3, 32, 4, 5), dtype) for _ in range(2))
    cut = odd(cut)
    found = finish(x, After(mask=packed(~(cut <= 0))))
    assert torch.equal(found, finish(x, After(cut=cut)))
    assert not torch.equal(found, x)
