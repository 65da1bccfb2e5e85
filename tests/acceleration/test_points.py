"""Weights at Winograd's points against the definition, and the gradient by them."""

from __future__ import annotations

import pytest
import torch
from helpers.convolutions import needs_compiler
from torch import Tensor

from jeatcli.acceleration.native import points
from jeatcli.acceleration.native.convolution import WinogradConv
from jeatcli.acceleration.native.kernel import kernel
from jeatcli.acceleration.native.learning import install

FORMATS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float32, torch.bfloat16]


def weights(outputs: int, inputs: int, form: torch.memory_format) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=form)


def defined(weight: Tensor, down: Tensor, across: Tensor, dtype: torch.dtype) -> Tensor:
    """Return weights at the points where they are not all zero, by one product of matrices."""
    library = kernel()
    assert library is not None
    (outputs, inputs), side = weight.shape[:2], 2 if dtype is torch.bfloat16 else 1
    panel = library.panel(outputs)
    pairs = torch.einsum("rpa,sqb->pqrsab", down, across).flatten(0, 3).flatten(1).double()
    at_points = pairs[pairs.any(1)] @ weight.double().reshape(outputs * inputs, -1).T
    panels = at_points.view(-1, outputs // panel, panel, inputs // side, side)
    return panels.permute(1, 0, 3, 2, 4).flatten()


def both_ways(weight: Tensor, stride: int, dtype: torch.dtype) -> list[Tensor]:
    """Return weights for the forward and for the backward pass, by definition."""
    turned = weight.transpose(0, 1)
    if stride == 1:
        axis = points._SAME[dtype][None]
        return [
            defined(weight, axis, axis, dtype),
            defined(turned.flip(2, 3), axis, axis, dtype),
        ]
    down, up = points._PAIR[dtype] @ points._DOWN, points._PAIR[dtype] @ points._UP
    parts = [defined(turned, i, j, dtype) for i in up.split(1) for j in up.split(1)]
    return [defined(weight, down, down, dtype), torch.cat(parts)]


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 48), (80, 32), (64, 16)])
def test_they_are_as_defined(
    outputs: int, inputs: int, stride: int, form: torch.memory_format, dtype: torch.dtype
) -> None:
    weight = weights(outputs, inputs, form)
    given = (weight, stride, dtype)
    ours = [points.forward_weights(*given), points.backward_weights(*given)]
    most = 1e-6 if dtype is torch.float32 else 2**-8
    for mine, theirs in zip(ours, both_ways(weight, stride, dtype), strict=True):
        assert mine.numel() == outputs * inputs * points.PRODUCTS[dtype][stride]
        torch.testing.assert_close(mine.double(), theirs, rtol=most, atol=1e-6)


@needs_compiler
def test_bfloat16_is_rounded_as_torch_rounds() -> None:
    """The first point is a single weight."""
    weight = weights(16, 16, torch.contiguous_format)
    weight[0, 0, 0, 0], weight[1, 0, 0, 0] = torch.nan, torch.inf
    found = points.forward_weights(weight, 1, torch.bfloat16)[: 16 * 16]
    expected = weight[:, :, 0, 0].to(torch.bfloat16).view(16, 8, 2).transpose(0, 1).flatten()
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@needs_compiler
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_goes_back_the_same_way(stride: int, form: torch.memory_format) -> None:
    """It is the adjoint: <sums, points of w> = <gradient, w> for all weights w."""
    weight = weights(32, 48, form)
    sums = torch.randn(points.PRODUCTS[torch.float32][stride], 48, 32)
    found = points.weight_gradient(sums, weight, stride)
    assert found.stride() == weight.stride()
    axes = points._SIX[None] if stride == 1 else points._FIVE @ points._DOWN
    pairs = torch.einsum("rpa,sqb->pqrsab", axes, axes).flatten(0, 3).flatten(1).double()
    exact = (pairs[pairs.any(1)].T @ sums.double().flatten(1)).view(3, 3, 48, 32)
    torch.testing.assert_close(found.double(), exact.permute(3, 2, 0, 1), rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_new_weights_are_noticed_between_the_passes(stride: int) -> None:
    fast = WinogradConv(torch.nn.Conv2d(16, 16, 3, stride, 1).requires_grad_(False))
    before = [fast.forward_weights.clone(), fast.backward_weights.clone()]
    x = torch.randn(1, 16, 8, 8, requires_grad=True)
    out = fast.add(x, None, False).sum()
    with torch.no_grad():
        fast.conv.weight.mul_(2)
    fast.refresh()
    for one, other in zip((fast.forward_weights, fast.backward_weights), before, strict=True):
        torch.testing.assert_close(one, 2 * other)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_autocast_does_not_round_the_points(stride: int) -> None:
    weight = weights(16, 32, torch.contiguous_format)
    for each in (points._forward, points._backward):
        each.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        under = [points.forward_weights(weight, stride, torch.float32)]
        under += [points.backward_weights(weight, stride, torch.float32)]
    for mine, theirs in zip(under, both_ways(weight, stride, torch.float32), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-6, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_type_are_refused_or_left_to_torch(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="must be float32"):
        points.forward_weights(torch.randn(16, 16, 3, 3).to(dtype), 1, torch.float32)
    net = torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3, padding=1, bias=False))
    install(net)
    net.to(dtype)
    x = torch.randn(2, 16, 5, 5).to(dtype)
    assert torch.equal(net(x), torch.nn.functional.conv2d(x, net[0].weight, None, 1, 1))
