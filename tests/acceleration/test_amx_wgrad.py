"""The gradient by the weights by matrix tiles, value by value against torch's in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.convolutions import conv
from helpers.direct import HALF, close
from helpers.threads import in_threads
from torch import Tensor, nn

from jeatcli.acceleration.native.after import last
from jeatcli.acceleration.native.learning_tiles import TileWgradConv

pytestmark = pytest.mark.usefixtures("needs_tiles")

# Images side by side in a tile, of which one may lack another one beside it.
SIZES = [
    *((0, 4, 4), (1, 1, 1), (2, 4, 4), (3, 5, 7), (1, 3, 28), (17, 4, 4), (5, 8, 8)),
    *((3, 9, 32), (33, 7, 5), (2, 6, 16), (1, 33, 64)),
]
either_stride = pytest.mark.parametrize("stride", [1, 2])


def given(
    inputs: int, outputs: int, size: tuple[int, int, int], stride: int
) -> tuple[Tensor, Tensor, nn.Conv2d]:
    """Return a gradient, the images and the convolution between them, numbers of bfloat16."""
    plain = conv(inputs, outputs, stride=stride, bias=False)
    x = last(torch.randn(size[0], inputs, *size[1:]), HALF)
    sides = ((side + stride - 1) // stride for side in size[1:])
    return last(torch.randn(size[0], outputs, *sides), HALF), x, plain


def ours(gradient: Tensor, x: Tensor, plain: nn.Conv2d) -> Tensor:
    return TileWgradConv.by_weight(gradient, x, plain.weight, plain.stride[0])


def exact(gradient: Tensor, x: Tensor, plain: nn.Conv2d) -> Tensor:
    weight = plain.weight.double().requires_grad_(True)
    out = nn.functional.conv2d(x.double(), weight, None, plain.stride, 1)
    return torch.autograd.grad(out, weight, gradient.double())[0]


@either_stride
@pytest.mark.parametrize("channels", [(16, 16), (32, 48), (80, 16)], ids=str)
def test_any_size(channels: tuple[int, int], stride: int) -> None:
    for size in SIZES:
        each = given(*channels, size, stride)
        found = ours(*each)
        close(found, exact(*each))
        assert found.is_contiguous()


@either_stride
@pytest.mark.parametrize("channels", [16, 64])
def test_more_images_than_a_block_has(channels: int, stride: int) -> None:
    """Their sums go on from block to block, of some channels in several parts."""
    for count in (39, 40):
        each = given(channels, channels, (count, 16, 32), stride)
        close(ours(*each), exact(*each))


@either_stride
@pytest.mark.parametrize("channels", [16, 48])
def test_the_sums_do_not_depend_on_the_number_of_threads(channels: int, stride: int) -> None:
    each = given(channels, channels, (23, 9, 16), stride)
    found = [in_threads(count, lambda: ours(*each)) for count in (1, 2, 5)]
    assert all(torch.equal(found[0], other) for other in found[1:])


@either_stride
@pytest.mark.parametrize("size", [(1, 3, 3), (3, 2, 5), (2, 3, 16)], ids=str)
def test_an_infinity_reaches_only_what_it_is_multiplied_by(
    size: tuple[int, int, int], stride: int
) -> None:
    n, height, width = size
    gradient, x, plain = given(16, 16, size, stride)
    for image, row, column in itertools.product({0, n - 1}, {0, height - 1}, range(width)):
        broken = x.clone()
        broken[image, 3, row, column] = torch.inf
        close(ours(gradient, broken, plain), exact(gradient, broken, plain))
        broken = gradient.clone()
        broken[image, 5, row // stride, column // stride] = torch.inf
        inner = x.clone()
        close(ours(broken, inner, plain), exact(broken, inner, plain))
