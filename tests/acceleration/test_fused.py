"""The library's convolutions with what follows them in one pass, against torch's in float64."""

from __future__ import annotations

import copy
import operator

import pytest
import torch
from helpers.cli import JEAT, done
from helpers.convolutions import fuses_in
from helpers.joined import pairs
from helpers.networks import classifier
from torch import nn

from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.fused import FusedConv, fusible
from jeatcli.acceleration.twins import accelerate, attach_twin
from jeatcli.acceleration.ways import KERNELS, Way, instead_of
from jeatcli.core.models.classifier import frozen
from jeatcli.training.resolve import read_config

HALF = torch.bfloat16
ROUNDING = {torch.float32: 1e-5, HALF: 0.01}


def conv(bias: bool = True, **more: object) -> nn.Conv2d:
    torch.manual_seed(0)
    given = {"kernel_size": 3, "padding": 1, "bias": bias, **more}
    return nn.Conv2d(6, 8, **given).requires_grad_(False)


pytestmark = pytest.mark.skipif(not fuses_in(torch.float32), reason="needs oneDNN")
# Not every processor can in bfloat16.
types_here = pytest.mark.parametrize("dtype", [*filter(fuses_in, ROUNDING)])


@types_here
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", ["none", "given", "wants a gradient"])
@pytest.mark.parametrize("shape", [{}, {"stride": 2}, {"kernel_size": 1, "padding": 0}])
def test_it_is_the_same_function_with_the_same_gradients(
    dtype: torch.dtype, relu: bool, residual: str, shape: dict[str, int]
) -> None:
    plain, fast = conv(**shape), FusedConv(conv(**shape), dtype)
    fast.relu = relu
    x = torch.randn(3, 6, 7, 9)
    added = torch.randn_like(plain(x))

    assert fast(x).dtype is dtype
    for ours, theirs in pairs(fast, plain, x, added, relu, residual):
        error = (ours.double() - theirs).square().mean().sqrt() / theirs.square().mean().sqrt()
        # Where a sum is near zero its sign may be rounded away, and the gradient with it.
        assert error < ROUNDING[dtype] * (8 if relu and dtype is HALF else 1)


@types_here
@pytest.mark.parametrize("residual", [False, True])
def test_no_images_are_no_error(residual: bool, dtype: torch.dtype) -> None:
    fast, none = FusedConv(conv(), dtype), torch.rand(0, 6, 8, 8).requires_grad_(True)
    fast.relu = True
    out = fast(none, torch.rand(0, 8, 8, 8) if residual else None)
    assert out.shape == (0, 8, 8, 8)
    assert torch.autograd.grad(out.sum(), none)[0].shape == none.shape


def test_what_it_stands_for() -> None:
    assert fusible(conv(bias=False, stride=2), torch.float32)
    others = [{"groups": 2}, {"dilation": 2}, {"padding_mode": "circular"}, {"padding": "same"}]
    modules = [*(conv(**more) for more in others), conv().double(), nn.ReLU(), conv().to("meta")]
    assert not any(fusible(module, torch.float32) for module in modules)


def test_a_type_that_the_library_does_not_fuse_is_left_to_it() -> None:
    # As bfloat16 is on processors without instructions for it.
    assert not fusible(conv(), torch.float64)
    assert Rewritten(classifier("wrn-10-1", "batch").eval().net, fused=torch.float64).swaps == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_trains_in_bfloat16_on_any_processor(tmp_path, kernel: str) -> None:
    asked = ("--precision", "bf16", "--kernel", kernel, "--no-compile", "-o", tmp_path / "run")
    done(*JEAT, *asked)
    # What is not possible here has the name of what computes instead.
    recorded = read_config(tmp_path / "run" / "config.toml").kernel
    assert recorded == kernel or recorded in instead_of(kernel)


@pytest.mark.parametrize("arch", ["cifar-resnet-8", "wrn-10-2", "resnet-18", "small"])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_network_of_them_is_the_same_function(arch: str, activation: str) -> None:
    model = classifier(arch, "batch", activation=activation).eval().requires_grad_(False)
    fast = accelerate(model, None, Way("fused"))
    assert isinstance(fast.net, Rewritten)
    assert all(isinstance(swap, FusedConv) for swap in fast.net.swaps)
    assert any(swap.relu for swap in fast.net.swaps) == (activation == "relu")
    x = torch.randn(3, 3, 32, 32)
    found = []
    for net in (fast, model):
        images = x.clone().requires_grad_(True)
        logits = net(images)
        found.append((logits, torch.autograd.grad(logits.logsumexp(1).sum(), images)[0]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


@types_here
def test_sums_and_activations_are_in_its_pass(dtype: torch.dtype) -> None:
    net = classifier("cifar-resnet-8", "batch", activation="relu").eval().net
    rewritten = Rewritten(net, fused=dtype)
    left = [node.target for node in rewritten.body.graph.nodes]
    assert operator.add not in left
    assert sum(str(target).endswith("act") for target in left) == 1  # after that of the pixels


def test_they_follow_the_weights_of_a_network_that_learns() -> None:
    model = classifier("cifar-resnet-8", "batch")
    before = copy.deepcopy(model.state_dict())
    attach_twin(model, Way("fused"))
    x = torch.rand(2, 3, 32, 32)
    for _ in range(2):
        with frozen(model) as still:
            assert isinstance(still.net, Rewritten)
            torch.testing.assert_close(still(x), model(x), rtol=1e-3, atol=1e-3)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.02 * torch.randn_like(weight))
    assert model.state_dict().keys() == before.keys()
