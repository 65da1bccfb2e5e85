"""The gradient by the weights at Winograd's points, against torch's in float64."""

from __future__ import annotations

import pytest
import torch
from helpers.convolutions import both, conv, needs_compiler
from helpers.threads import in_threads
from torch import Tensor, nn

from jeatcli.acceleration.native import learning
from jeatcli.acceleration.native.kernel import wgrad
from jeatcli.acceleration.native.learning import install

# One tile, lines that end within one, and more tiles than a block has.
SIZES = [(1, 4, 4), (3, 7, 9), (2, 1, 5), (5, 32, 32), (99, 4, 4)]


def given(inputs: int, outputs: int, size: tuple[int, int, int], stride: int) -> list[Tensor]:
    """Return images, weights, and a gradient by their convolution."""
    weight = conv(inputs, outputs).weight
    x = torch.randn(size[0], inputs, *size[1:])
    return [x, weight, torch.randn_like(nn.functional.conv2d(x, weight, None, stride, 1))]


def exact(x: Tensor, weight: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """Return the gradient by the weights in float64."""
    learnt = weight.double().requires_grad_(True)
    out = nn.functional.conv2d(x.double(), learnt, None, stride, 1)
    return torch.autograd.grad(out, learnt, gradient.double())[0]


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(16, 16), (48, 32), (32, 80), (16, 64)])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_same_gradient(
    channels: tuple[int, int], size: tuple[int, int, int], stride: int, dtype: torch.dtype
) -> None:
    x, weight, gradient = given(*channels, size, stride)
    x, gradient = x.to(dtype), gradient.to(dtype)
    ours = learning._learn_weight(gradient, x, weight, stride)
    theirs = exact(x, weight, gradient, stride)
    # In bfloat16, too, the sums are float32's.
    atol = 2e-5 * theirs.abs().max().item()
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=atol)
    assert ours.stride() == weight.stride()


@needs_compiler
@pytest.mark.parametrize(
    ("name", "stride", "points"), [("same_wgrad", 1, 36), ("down_wgrad", 2, 81)]
)
def test_the_sums_do_not_depend_on_the_number_of_threads(
    name: str, stride: int, points: int
) -> None:
    x, weight, gradient = given(32, 48, (6, 17, 16), stride)
    found = [weight.new_empty(points, 32 * 48) for _ in range(3)]
    for count, sums in zip((1, 2, 5), found, strict=True):
        in_threads(count, lambda sums=sums: wgrad(name, x, gradient, sums))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_of_no_images_it_is_zero(stride: int) -> None:
    x, weight, gradient = given(16, 32, (0, 8, 8), stride)
    found = learning._learn_weight(gradient, x, weight, stride)
    assert torch.equal(found, torch.zeros_like(weight))


@needs_compiler
def test_frozen_weights_get_none(monkeypatch) -> None:
    monkeypatch.setattr(learning, "_learn_weight", None)
    plain, x = conv(16, 32), torch.randn(2, 16, 8, 8)
    expected = both(plain, x)
    install(net := nn.Sequential(plain))
    for ours, theirs in zip(both(net, x), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_the_first_layer_asks_for_none_by_its_images(monkeypatch) -> None:
    monkeypatch.setattr(learning, "_learn_backward", None)
    x, weight, gradient = given(16, 32, (2, 8, 8), 1)
    plain = conv(16, 32).requires_grad_(True)
    install(net := nn.Sequential(plain))
    net(x).backward(gradient)
    torch.testing.assert_close(
        plain.weight.grad.double(), exact(x, weight, gradient, 1), rtol=1e-4, atol=1e-3
    )
