"""Winograd's convolutions in bfloat16 against torch's in float64, where the processor has it."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.convolutions import has_bf16_kernel
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.native import convolution, kernel, learning
from jeatcli.acceleration.native.convolution import WinogradConv, fits
from jeatcli.acceleration.native.learning import LearningConv, install
from jeatcli.acceleration.twins import accelerate, attach_twin, learn_by
from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import frozen

HALF = torch.bfloat16


needs_bf16 = pytest.mark.skipif(not has_bf16_kernel(), reason="needs g++ and AVX512-BF16")


def conv(inputs: int, outputs: int, bias: bool = True, stride: int = 1) -> nn.Conv2d:
    """Return a convolution whose weights and bias are numbers of bfloat16."""
    torch.manual_seed(0)
    module = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias).requires_grad_(False)
    for weight in module.parameters():
        weight.copy_(weight.to(HALF))
    return module


def both(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a module's outputs and the gradient by the images of a weighted sum of them."""
    x = x.clone().requires_grad_(True)
    out = module(x)
    weights = torch.linspace(-1, 1, out.numel()).to(HALF).to(out.dtype).view(out.shape)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    return out.detach(), gradient


def error(got: Tensor, exact: Tensor) -> float:
    """Return the root mean square of the error, as a share of that of what is exact."""
    return float((got.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@needs_bf16
@pytest.mark.parametrize("channels", [(16, 16), (48, 32), (64, 128), (32, 80)])
@pytest.mark.parametrize("size", [(1, 8, 8), (3, 7, 9), (5, 32, 32), (33, 4, 4), (2, 1, 5)])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_rounds_about_as_much_as_the_library_does(
    channels: tuple[int, int], size: tuple[int, int, int], stride: int
) -> None:
    plain = conv(*channels, stride=stride)
    n, height, width = size
    x = torch.randn(n, channels[0], height, width).to(HALF)
    mine = both(WinogradConv(plain, HALF), x)
    library = both(copy.deepcopy(plain).to(HALF), x)
    exact = both(plain.double(), x.double())
    for ours, theirs, wanted in zip(mine, library, exact, strict=True):
        assert ours.dtype is HALF
        assert ours.is_contiguous(memory_format=torch.channels_last)
        # The library rounds the sum alone; we round pixels and weights at their points as well.
        assert error(ours, wanted) < 3 * error(theirs, wanted) < 0.008


@needs_bf16
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [None, torch.float32, HALF])
def test_what_follows_is_done_with_it(relu: bool, residual: torch.dtype | None) -> None:
    plain, x = conv(16, 48), torch.randn(3, 16, 7, 9).to(HALF)
    added = torch.randn_like(plain(x.float())).to(residual or HALF)
    fast = WinogradConv(plain, HALF)
    fast.relu = relu
    got = fast(x) if residual is None else fast(x, added)
    exact = plain.double()(x.double())
    if residual is not None:
        exact += added.double()
    assert error(got, exact.relu() if relu else exact) < 0.006


@needs_bf16
@pytest.mark.parametrize("stride", [1, 2])
def test_what_learns_gets_the_same_gradients(stride: int) -> None:
    plain = conv(32, 48, stride=stride).requires_grad_(True)
    exact = copy.deepcopy(plain).double()
    install(net := nn.Sequential(plain), HALF)
    assert type(plain) is LearningConv
    x = torch.randn(5, 32, 9, 8).to(HALF)
    out, wanted = net(x), exact(x.double())
    assert error(out.detach(), wanted.detach()) < 0.006
    slopes = torch.randn_like(out)
    out.backward(slopes)
    wanted.backward(slopes.double())
    for name, weight in exact.named_parameters():
        mine = plain.get_parameter(name).grad
        assert mine.dtype is torch.float32
        assert error(mine, weight.grad) < 0.006


@needs_bf16
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("arch", ["cifar-resnet-8", "wrn-10-2", "resnet-18"])
def test_a_network_of_them_is_as_good_as_the_librarys_in_bf16(arch: str, activation: str) -> None:
    model = classifier(arch, "batch", activation=activation).eval().requires_grad_(False)
    x = torch.rand(4, 3, 32, 32)
    exact = both(model, x)  # in float32, whose rounding is nothing beside
    library = both(accelerate(model, HALF), x)
    twin = accelerate(model, HALF)
    twin.net = Rewritten(model.net, HALF)
    assert twin.net.swaps
    assert any(swap.relu for swap in twin.net.swaps) == (activation == "relu")
    for ours, theirs, wanted in zip(both(twin, x), library, exact, strict=True):
        assert ours.dtype is torch.float32
        # Where a shortcut has no weights, torch's autocast keeps its way in float32; we round it.
        # So do we the slope of SiLU.
        assert error(ours, wanted) < 3 * error(theirs, wanted) + 0.0025


@needs_bf16
def test_autocast_does_not_round_the_weights_before_they_are_at_their_points() -> None:
    plain = nn.Conv2d(32, 48, 3, 1, 1)
    install(net := nn.Sequential(plain), HALF)
    x = torch.randn(5, 32, 9, 8).to(HALF)
    with torch.autocast("cpu", HALF):
        out = net(x)
    assert torch.equal(out, net(x))


@needs_bf16
def test_a_network_that_learns_in_bf16_lends_one_of_them() -> None:
    model = classifier("cifar-resnet-8", "none")
    model.autocast = HALF
    learn_by(model, Way("winograd"))
    attach_twin(model, Way("winograd"))
    assert all(
        isinstance(module, LearningConv) == fits(module, HALF)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )
    x = torch.rand(2, 3, 32, 32)
    with frozen(model) as still:
        assert isinstance(still.net, Rewritten)
        assert still.net.swaps
        assert {swap.dtype for swap in still.net.swaps} == {HALF}
        torch.testing.assert_close(still(x), model(x), rtol=0.02, atol=0.02)
    model(x).square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


@needs_bf16
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_torch_finds_nothing_wrong_with_the_operators() -> None:
    plain, x = conv(16, 32), torch.randn(2, 16, 8, 8).to(HALF)
    fast = WinogradConv(plain, HALF)
    given = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    residual = torch.randn_like(fast(x)).requires_grad_()
    for rest in ((None, None, False), (plain.bias, residual, True)):
        given_all = (given, fast.forward_weights, fast.backward_weights, *rest[:2], 1, rest[2])
        torch.library.opcheck(convolution._convolve, given_all)
    weight = plain.weight.clone().requires_grad_()
    for bias in (None, torch.randn(32).requires_grad_()):
        torch.library.opcheck(learning._learn, (given, weight, bias, 1))


@needs_bf16
def test_what_it_stands_for() -> None:
    assert fits(conv(16, 32), HALF)
    assert fits(conv(16, 32, stride=2), HALF)
    assert not fits(conv(16, 32), torch.float16)


@needs_bf16
def test_a_processor_without_it_has_float32_alone(monkeypatch, anew) -> None:
    monkeypatch.setattr(kernel, "_FLAGS", (*kernel._FLAGS, "-mno-avx512bf16"))
    assert not fits(conv(16, 16), HALF)
    assert fits(conv(16, 16))
