"""Winograd's convolutions against torch's in float64, and what happens where they cannot be had."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.convolutions import both, conv, needs_compiler
from helpers.joined import pairs
from helpers.networks import classifier
from torch import nn

from jeatcli.acceleration.native import convolution, learning
from jeatcli.acceleration.native.convolution import WinogradConv
from jeatcli.acceleration.native.learning import LearningConv, install
from jeatcli.acceleration.twins import attach_twin
from jeatcli.core.models.classifier import frozen

SIZES = [(1, 8, 8), (3, 7, 9), (2, 28, 28), (5, 32, 32), (33, 4, 4), (2, 1, 5)]


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(16, 16), (48, 32), (64, 128), (32, 80)])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_same_convolution(
    channels: tuple[int, int], size: tuple[int, int, int], stride: int
) -> None:
    n, height, width = size
    plain = conv(*channels, stride=stride)
    x = torch.randn(n, channels[0], height, width)
    mine = both(WinogradConv(plain), x)
    exact = both(plain.double(), x.double())
    for ours, theirs in zip(mine, exact, strict=True):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-5 * scale)


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(3, 7, 9), (2, 16, 16)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", ["none", "given", "wants a gradient"])
@pytest.mark.parametrize("bias", [False, True])
def test_what_follows_is_done_with_it(
    size: tuple[int, int, int], relu: bool, residual: str, bias: bool, stride: int
) -> None:
    n, height, width = size
    plain = conv(16, 48, bias, stride)
    x = torch.randn(n, 16, height, width)
    added = torch.randn_like(plain(x))

    fast = WinogradConv(plain)
    fast.relu = relu
    for ours, theirs in pairs(fast, plain, x, added, relu, residual):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-5 * scale)


@needs_compiler
def test_a_relu_lets_nan_through() -> None:
    fast, x = WinogradConv(conv(16, 16)), torch.randn(1, 16, 8, 8)
    fast.relu = True
    x[0, 3, 4, 4] = torch.nan
    assert fast(x)[0, :, 4, 4].isnan().all()
    assert not fast(x).isnan().all()


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_what_learns_gets_the_same_gradients(bias: bool, stride: int) -> None:
    plain = conv(32, 48, bias, stride).requires_grad_(True)
    exact = copy.deepcopy(plain).double()
    names = [name for name, _ in plain.named_parameters()]
    install(net := nn.Sequential(plain))
    assert type(plain) is LearningConv
    x = torch.randn(5, 32, 9, 8)
    for ours, theirs in zip(both(net, x), both(exact, x.double()), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    (net(x).square().sum() + exact(x.double()).square().sum()).backward()
    for name in names:
        mine, theirs = plain.get_parameter(name).grad, exact.get_parameter(name).grad
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-3)


@needs_compiler
def test_a_network_that_learns_keeps_its_names_and_its_function() -> None:
    model = classifier("wrn-10-2", "batch").eval()
    x = torch.rand(3, 3, 32, 32)
    before, state = model(x), copy.deepcopy(model.state_dict())
    install(model.net)
    assert any(type(module) is LearningConv for module in model.modules())
    assert list(model.state_dict()) == list(state)
    torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-4)
    attach_twin(model)
    with frozen(model) as still:
        torch.testing.assert_close(still(x), before, rtol=1e-3, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_an_image_does_not_depend_on_its_batch(stride: int) -> None:
    fast = WinogradConv(conv(32, 64, stride=stride))
    x = torch.randn(70, 32, 8, 8)
    whole = fast(x)
    assert torch.equal(whole[5:6], fast(x[5:6]))
    assert torch.equal(whole[40:], fast(x[40:]))


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_no_images_are_no_error(stride: int) -> None:
    plain = conv(16, 32, stride=stride)
    none = torch.rand(0, 16, 8, 8)
    for ours, theirs in zip(both(WinogradConv(plain), none), both(plain, none), strict=True):
        assert ours.shape == theirs.shape


@needs_compiler
def test_it_takes_any_memory_layout() -> None:
    fast, x = WinogradConv(conv(16, 16)), torch.randn(2, 16, 8, 8)
    expected = fast(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(fast(x), expected)
    assert torch.equal(fast(x[:, :, :, ::2]), fast(x[:, :, :, ::2].contiguous()))
    assert expected.is_contiguous(memory_format=torch.channels_last)


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_torch_finds_nothing_wrong_with_the_operators(stride: int) -> None:
    fast, x = WinogradConv(conv(16, 32, stride=stride)), torch.randn(2, 16, 8, 8)
    given = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    bias, residual = torch.randn(32), torch.randn_like(fast(x)).requires_grad_()
    for rest in ((None, None, False), (bias, None, True), (bias, residual, True)):
        given_all = (given, fast.forward_weights, fast.backward_weights, *rest[:2], stride, rest[2])
        torch.library.opcheck(convolution._convolve, given_all)
    weight = fast.conv.weight.clone().requires_grad_()
    for each in (None, bias.requires_grad_()):
        torch.library.opcheck(learning._learn, (given, weight, each, stride))
