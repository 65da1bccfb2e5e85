"""Convolutions that the kernel computes as defined, value by value against torch's in float64."""

from __future__ import annotations

import copy
import ctypes
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from helpers.convolutions import both, needs_compiler
from helpers.direct import (
    ROUNDING,
    Make,
    backward,
    close,
    compare,
    either_type,
    every_kind,
    pixels,
    point,
    stem,
    swap,
)
from helpers.following import every, followed
from helpers.joined import pairs
from torch import nn

from jeatcli.acceleration.native import kernel
from jeatcli.acceleration.native.after import NOTHING, After, last
from jeatcli.acceleration.native.convolution import WinogradConv

pytestmark = needs_compiler

# The numbers of pixels are below, at and beyond those of a block, 48.
pytestmark = pytest.mark.usefixtures("tiles")
SIZES = [(0, 4, 4), (1, 1, 1), (5, 7, 9), (1, 1, 47), (1, 6, 8), (1, 7, 7), (2, 8, 6), (1, 19, 5)]


@either_type
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_of_one_pixel(stride: int, dtype: torch.dtype) -> None:
    channels = (16, 32, 48, 64, 96, 128)
    for inputs, outputs in itertools.product(channels, channels):
        fast = swap(point(inputs, outputs, stride), dtype)
        size = SIZES[(inputs + 5 * outputs) // 16 % len(SIZES)]
        compare(fast, pixels(fast, *size))
    fast = swap(point(16, 128, stride, bias=False), dtype)
    for size in SIZES:
        compare(fast, pixels(fast, *size))


@either_type
@pytest.mark.parametrize("channels", [1, 3])
def test_a_convolution_of_the_pixels(channels: int, dtype: torch.dtype) -> None:
    for outputs in (16, 48, 128):
        fast = swap(stem(channels, outputs, bias=outputs != 48), dtype)
        for size in [(0, 4, 4), (5, 2, 3), (1, 1, 1), (2, 5, 16)]:
            compare(fast, pixels(fast, *size))
    for width in range(1, 36):
        compare(fast, pixels(fast, 1, 1 + width % 3, width))


@every_kind
def test_what_follows_is_done_with_it(make: Make) -> None:
    fast = make()
    x = pixels(fast, 2, 5, 9)
    exact = copy.deepcopy(fast.conv).double()(x.double())
    for relu in (False, True):
        for each in every(fast.empty(x), ("residual", "too", "scale_too", "silu", "keep_slope")):
            after = each._replace(relu=relu)
            result, too = followed(exact, after)
            close(fast.run(x, after), result)
            if after.too is not None:
                close(after.too, too)


@every_kind
def test_what_follows_the_gradient_is_done_with_it(make: Make) -> None:
    fast = make()
    fast.relu = True  # the gradient has passed it
    x = pixels(fast, 2, 5, 9)
    gradient = torch.randn(fast.shape(x)).to(fast.dtype)
    for after in every(x, ("residual", "cut", "slope", "scale", "more", "silu", "of_cut")):
        found, exact = backward(fast, gradient, x, after)
        close(found, followed(exact, after)[0])


@every_kind
def test_what_is_not_finite_goes_where_torch_lets_it(make: Make) -> None:
    """Nowhere else: neither to the pixels beside it nor to those that lie beyond a line."""
    fast = make()
    for value, place in itertools.product(
        (torch.nan, torch.inf), ((0, 0, 0), (1, 4, 18), (1, 2, 7), (0, 4, 0), (0, 3, 16))
    ):
        image, row, column = place
        x = pixels(fast, 2, 5, 19)
        x[image, -1, row, column] = value
        out, exact = fast.run(x, NOTHING), copy.deepcopy(fast.conv).double()(x.double())
        close(out, exact)
        gradient = torch.randn(out.shape).to(fast.dtype)
        gradient[image, -2, row // fast.stride[0], column // fast.stride[0]] = value
        close(*backward(fast, gradient, x))


@every_kind
def test_a_relu_lets_nan_through(make: Make) -> None:
    fast = make()
    x = pixels(fast, 2, 5, 9)
    x[1, 0, 2, 4] = torch.nan
    exact = copy.deepcopy(fast.conv).double()(x.double()).relu()
    assert 0 < exact.isnan().sum() < exact.numel()
    close(fast.run(x, After(relu=True)), exact)


@every_kind
def test_an_image_does_not_depend_on_its_batch(make: Make) -> None:
    fast = make()
    fast.relu = True
    x = pixels(fast, 7, 5, 9)
    whole = both(fast, x)
    gradient = torch.randn(fast.shape(x)).to(fast.dtype)
    back = fast.back(last(gradient), x.shape, None, NOTHING)
    for part in (slice(0, 1), slice(3, 4), slice(2, 7)):
        assert torch.equal(fast(x[part]), whole[0][part])
        alone = fast.back(last(gradient[part]), x[part].shape, None, NOTHING)
        assert torch.equal(alone, back[part])


@either_type
@pytest.mark.parametrize("stride", [1, 2])
def test_nor_does_what_follows(stride: int, dtype: torch.dtype) -> None:
    """Panels of one vector have so many rows that a compiler may round some otherwise."""
    fast = swap(nn.Conv2d(48, 48, 1, stride).requires_grad_(False), dtype)
    x = pixels(fast, 7, 5, 9)
    gradient = last(torch.randn(fast.shape(x)), dtype)
    for after in every(x, ("residual", "cut", "slope", "scale", "more", "silu")):
        whole = fast.back(gradient, x.shape, None, after)
        for part in (slice(0, 1), slice(3, 4), slice(2, 7)):
            given = {
                key: value[part]
                for key in ("residual", "cut", "slope", "more")
                if (value := getattr(after, key)) is not None
            }
            alone = fast.back(gradient[part], x[part].shape, None, after._replace(**given))
            assert torch.equal(alone, whole[part])


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set the number of threads of the kernel, which may not be that of torch."""
    library = kernel.kernel()
    assert library is not None
    before = library.omp_get_max_threads()
    yield lambda count: library.omp_set_num_threads(ctypes.c_int(count))
    library.omp_set_num_threads(before)


@every_kind
def test_threads_change_nothing(make: Make, threads: Callable[[int], None]) -> None:
    winograd = WinogradConv(nn.Conv2d(32, 48, 3, 1, 1))
    for fast in (make(), winograd):
        x = pixels(fast, 5, 11, 13)
        gradient = last(torch.randn(fast.shape(x)), fast.dtype)
        found = []
        for count in (1, 2, 3):
            threads(count)
            found.append((fast.run(x, NOTHING), fast.back(gradient, x.shape, None, NOTHING)))
        for one, other in itertools.product(found[:1], found[1:]):
            assert all(map(torch.equal, one, other))


@every_kind
def test_it_follows_the_weights_when_told_to(make: Make) -> None:
    fast = make()
    x = pixels(fast, 2, 5, 9)
    before = fast.run(x, NOTHING)
    for weight in fast.conv.parameters():
        weight.copy_(torch.randn_like(weight).to(torch.bfloat16))
    fast.refresh()
    assert not torch.equal(fast.run(x, NOTHING), before)
    compare(fast, x)


@every_kind
def test_a_bias_may_be_a_part_of_other_numbers(make: Make) -> None:
    for fast in (make(), WinogradConv(nn.Conv2d(32, 48, 3, 1, 1))):
        bias = torch.randn(2 * fast.conv.out_channels)[::2]
        fast.conv.requires_grad_(False).bias = nn.Parameter(bias, requires_grad=False)
        x = pixels(fast, 1, 3, 3)
        out, exact = fast(x).double(), copy.deepcopy(fast.conv).double()(x.double())
        torch.testing.assert_close(out, exact, rtol=max(1e-4, ROUNDING[fast.dtype][0]), atol=1e-5)


def test_weights_that_change_change_nothing_until_told_to() -> None:
    conv = stem(3, 16)
    conv.weight = nn.Parameter(torch.randn(3, 3, 3, 16).permute(3, 2, 0, 1), requires_grad=False)
    fast = swap(conv)  # which reads them in that order
    x = pixels(fast, 1, 3, 3)
    before = fast.run(x, NOTHING)
    conv.weight.mul_(2)
    assert torch.equal(fast.run(x, NOTHING), before)


@every_kind
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", ["none", "given", "wants a gradient"])
def test_autograd_has_the_same_gradients(make: Make, relu: bool, residual: str) -> None:
    fast = make()
    fast.relu = relu
    x = pixels(fast, 3, 7, 9).float()
    added = torch.randn(fast.shape(x))
    for ours, theirs in pairs(fast, fast.conv, x, added, relu, residual):
        error = (ours.double() - theirs).square().mean().sqrt() / theirs.square().mean().sqrt()
        # Where a sum is near zero its sign may be rounded away, and the gradient with it.
        assert error < (1e-6 if fast.dtype is torch.float32 else 0.05 if relu else 0.01)


@every_kind
def test_autograd_takes_any_residual_and_layout(make: Make) -> None:
    fast = make()
    x = pixels(fast, 3, 7, 9)
    one = torch.randn(3, 1, 1, 1).to(fast.dtype).float().requires_grad_()
    out = fast(x, one)
    close(out, copy.deepcopy(fast.conv).double()(x.double()) + one)
    (found,) = torch.autograd.grad(out.sum(), one)
    torch.testing.assert_close(found, torch.full_like(one, out[0].numel()))
    assert torch.equal(fast(x.contiguous()), fast(x))
    assert torch.equal(fast(x[:, :, ::2, 1:]), fast(x[:, :, ::2, 1:].clone()))
    assert not fast(x).requires_grad


@every_kind
def test_weights_may_not_change_before_the_backward_pass(make: Make) -> None:
    fast = make()
    out = fast(pixels(fast, 1, 3, 3).requires_grad_())
    fast.refresh()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@every_kind
def test_a_second_derivative_is_refused(make: Make) -> None:
    fast = make()
    x = pixels(fast, 1, 3, 3).requires_grad_()
    (slope,) = torch.autograd.grad(fast(x).exp().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.square().sum().backward()
