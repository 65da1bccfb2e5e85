"""Convolutions by matrix tiles that learn."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.acceleration.native import amx, learning_tiles
from jeatcli.acceleration.native.learning_tiles import (
    LearningTileConv,
    TileWgradConv,
    install_tiles,
)
from jeatcli.acceleration.twins import attach_twin, learn_by
from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import frozen

HALF = torch.bfloat16


pytestmark = pytest.mark.usefixtures("needs_tiles")


def learnt(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the result, and the gradients by the images and the weights, in float64."""
    x = x.clone().requires_grad_(True)
    out = module(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    found = torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])
    return [each.detach().double() for each in (out, *found)]


@pytest.mark.parametrize("wgrad", [False, True], ids=["library", "tiles"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (16, 32), (64, 48)])
def test_it_learns_the_same(
    inputs: int, outputs: int, size: int, stride: int, bias: bool, wgrad: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=bias)
    exact, net = copy.deepcopy(plain).double(), nn.Sequential(plain)
    install_tiles(net, wgrad)
    assert type(plain) is (TileWgradConv if wgrad and size == 3 else LearningTileConv)
    assert [*net.state_dict()] == ["0.weight", "0.bias"][: 1 + bias]
    x = torch.randn(3, inputs, 7, 9)
    for ours, theirs in zip(learnt(net, x), learnt(exact, x.double()), strict=True):
        error = (ours - theirs).norm() / theirs.norm()
        assert error < 0.01


def test_frozen_weights_get_no_gradient(monkeypatch) -> None:
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False))
    install_tiles(net)
    x = torch.randn(2, 16, 6, 6, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None
    assert all(each.grad is None for each in net.parameters())


def test_the_first_layer_asks_for_none_by_its_images(monkeypatch) -> None:
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
    install_tiles(net)
    monkeypatch.setattr(learning_tiles, "backward_tiles", None)
    net(torch.randn(2, 16, 6, 6)).sum().backward()
    assert all(each.grad is not None for each in net.parameters())


@pytest.mark.parametrize(
    ("name", "kind"), [("amx", LearningTileConv), ("amx-wgrad", TileWgradConv)]
)
def test_a_network_learns_by_them_in_bfloat16_alone(name: str, kind: type[nn.Module]) -> None:
    for dtype in (HALF, None):
        model = classifier("cifar-resnet-8", "batch", activation="relu").train()
        model.autocast = dtype
        expected, x = copy.deepcopy(model), torch.rand(8, 3, 32, 32)
        learn_by(model, Way(name))
        count = sum(type(module) is kind for module in model.modules())
        assert count == (6 if dtype is HALF else 0)
        ours, theirs = model(x), expected(x)
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
        ours.logsumexp(1).sum().backward()
        assert all(weight.grad is not None for weight in model.parameters())
        attach_twin(model, Way(name))
        with frozen(model) as still:
            assert still(x).isfinite().all()


def test_without_tiles_nothing_is_replaced(monkeypatch) -> None:
    monkeypatch.setattr(amx, "has_tiles", lambda: False)
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
    install_tiles(net, wgrad=True)
    assert type(net[0]) is nn.Conv2d
