"""Convolutions by matrix tiles that learn; without tiles, with torch in their place."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.acceleration.native import amx, learning_tiles
from jeatcli.acceleration.native.after import NOTHING, After
from jeatcli.acceleration.native.amx import has_tiles
from jeatcli.acceleration.native.learning_tiles import LearningTileConv, install_tiles
from jeatcli.acceleration.twins import attach_twin, learn_by
from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import frozen

HALF = torch.bfloat16


@pytest.fixture
def tiles(monkeypatch) -> None:
    """Let torch compute what tiles would, where there are none."""
    if has_tiles():
        return

    def call(
        name: str, x: Tensor, weights: tuple[int, Tensor], out: Tensor, after: After = NOTHING
    ) -> Tensor:
        (back, weight), stride = weights, 1 if x.shape[2:] == out.shape[2:] else 2
        size = weight.shape[-1]
        assert name == amx.functions(size, stride)[back]
        if back:
            given = out.shape, weight, x.float(), stride, size // 2
            return out.copy_(torch.nn.grad.conv2d_input(*given))
        bias = None if after.bias is None else after.bias.detach()
        return out.copy_(nn.functional.conv2d(x.float(), weight, bias, stride, size // 2))

    def forward_tiles(weight: Tensor) -> tuple[int, Tensor]:
        return 0, weight.detach().to(HALF).float()

    def backward_tiles(weight: Tensor, stride: int) -> tuple[int, Tensor]:
        return 1, weight.detach().to(HALF).float()

    monkeypatch.setattr(amx, "has_tiles", lambda: True)
    for each in (call, forward_tiles, backward_tiles):
        monkeypatch.setattr(learning_tiles, each.__name__, each)


def learnt(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the result, and the gradients by the images and the weights, in float64."""
    x = x.clone().requires_grad_(True)
    out = module(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    found = torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])
    return [each.detach().double() for each in (out, *found)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (16, 32), (64, 48)])
def test_it_learns_the_same(
    tiles, inputs: int, outputs: int, size: int, stride: int, bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=bias)
    exact, net = copy.deepcopy(plain).double(), nn.Sequential(plain)
    install_tiles(net)
    assert type(plain) is LearningTileConv
    assert [*net.state_dict()] == ["0.weight", "0.bias"][: 1 + bias]
    x = torch.randn(3, inputs, 7, 9)
    for ours, theirs in zip(learnt(net, x), learnt(exact, x.double()), strict=True):
        error = (ours - theirs).norm() / theirs.norm()
        assert error < 0.01


def test_frozen_weights_get_no_gradient(tiles, monkeypatch) -> None:
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False))
    install_tiles(net)
    x = torch.randn(2, 16, 6, 6, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None
    assert all(each.grad is None for each in net.parameters())


def test_the_first_layer_asks_for_none_by_its_images(tiles, monkeypatch) -> None:
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
    install_tiles(net)
    monkeypatch.setattr(learning_tiles, "backward_tiles", None)
    net(torch.randn(2, 16, 6, 6)).sum().backward()
    assert all(each.grad is not None for each in net.parameters())


def test_a_network_learns_by_them_in_bfloat16_alone(tiles) -> None:
    for dtype in (HALF, None):
        model = classifier("cifar-resnet-8", "batch", activation="relu").train()
        model.autocast = dtype
        expected, x = copy.deepcopy(model), torch.rand(8, 3, 32, 32)
        learn_by(model, Way("amx"))
        count = sum(type(module) is LearningTileConv for module in model.modules())
        assert count == (6 if dtype is HALF else 0)
        ours, theirs = model(x), expected(x)
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
        ours.logsumexp(1).sum().backward()
        assert all(weight.grad is not None for weight in model.parameters())
        attach_twin(model, Way("amx"))
        with frozen(model) as still:
            assert still(x).isfinite().all()


def test_without_tiles_nothing_is_replaced() -> None:
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
    install_tiles(net)
    assert (type(net[0]) is LearningTileConv) == has_tiles()
