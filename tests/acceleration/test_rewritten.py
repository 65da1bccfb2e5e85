"""Networks that are rewritten to compute faster are the same functions."""

from __future__ import annotations

import itertools
import operator

import pytest
import torch
from helpers.convolutions import both, conv, has_bf16_kernel, needs_compiler
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.acceleration import twins
from jeatcli.acceleration.compiled import Compiled
from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.fused import FusedConv
from jeatcli.acceleration.native.amx import AmxConv, has_tiles
from jeatcli.acceleration.native.convolution import WinogradConv, fits
from jeatcli.acceleration.native.direct import StemConv
from jeatcli.acceleration.twins import accelerate, attach_twin
from jeatcli.acceleration.ways import KERNELS, Way
from jeatcli.core.models.classifier import Network, frozen

pytestmark = pytest.mark.usefixtures("tiles")


@needs_compiler
def test_what_it_stands_for() -> None:
    assert fits(conv(16, 32))
    assert fits(nn.Conv2d(16, 16, 3, padding="same"))
    assert fits(nn.Conv2d(16, 16, 3, 2, 1))
    others = [
        nn.Conv2d(3, 16, 3, 1, 1),
        nn.Conv2d(16, 20, 3, 1, 1),
        nn.Conv2d(16, 16, 3, 3, 1),
        nn.Conv2d(16, 16, 3, (2, 1), 1),
        nn.Conv2d(16, 16, 3, 1, 0),
        nn.Conv2d(16, 16, 3, 1, 2, dilation=2),
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(32, 32, 3, 1, 1, groups=2),
        nn.Conv2d(16, 16, 3, 1, 1, padding_mode="circular"),
        conv(16, 16).double(),
        nn.Linear(16, 16),
    ]
    assert not any(map(fits, others))


@needs_compiler
@pytest.mark.parametrize("arch", ["cifar-resnet-8", "wrn-10-2", "resnet-18", "small"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_network_of_them_is_the_same_function(arch: str, norm: str, activation: str) -> None:
    model = classifier(arch, norm, activation=activation).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    rewritten = Rewritten(model.net, torch.float32)
    assert rewritten.swaps
    x = torch.randn(3, 3, 32, 32)
    for one, other in zip(both(rewritten, x), both(model.net, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


@needs_compiler
def test_sums_and_activations_are_joined_to_their_convolutions() -> None:
    net = classifier("cifar-resnet-8", "batch", activation="relu").eval().net
    rewritten = Rewritten(net, torch.float32)
    left = [node.target for node in rewritten.body.graph.nodes]
    assert operator.add not in left
    # Three stages of one block. The first convolution of all, of three channels, is the library's.
    assert [swap.relu for swap in rewritten.swaps] == [True] * 6
    assert sum(str(target).endswith("act") for target in left) == 1
    smooth = classifier("cifar-resnet-8", "batch", activation="silu").eval().net
    assert not any(swap.relu for swap in Rewritten(smooth, torch.float32).swaps)


class Awkward(Network):
    """Sums and activations that may not be joined: others take what is between."""

    foldable = True

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(16, 16, 3, 1, 1) for _ in range(3))
        self.act = nn.ReLU()

    def features(self, x: Tensor) -> Tensor:
        first = self.first(x)
        twice = first + first
        second = self.second(self.act(twice))
        third = self.third(second + 1) + second
        return (self.act(third) + third + self.act(first)).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return features


@needs_compiler
def test_what_others_take_is_not_joined() -> None:
    torch.manual_seed(0)
    net = Awkward().eval().requires_grad_(False)
    rewritten = Rewritten(net, torch.float32)
    assert [swap.relu for swap in rewritten.swaps] == [False] * 3
    x = torch.randn(2, 16, 8, 8)
    for one, other in zip(both(rewritten, x), both(net, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


@needs_compiler
def test_they_follow_the_weights_of_a_network_that_learns() -> None:
    model = classifier("cifar-resnet-8", "none")
    x = torch.rand(2, 3, 32, 32)
    for _ in range(2):
        attach_twin(model, Way("winograd"))
        with frozen(model) as still:
            assert isinstance(still.net, Rewritten)
            assert still.net.swaps
            torch.testing.assert_close(still.net(x), model.net(x), rtol=1e-3, atol=1e-4)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.02 * torch.randn_like(weight))


@needs_compiler
def test_a_way_is_a_kernel_and_a_compiler() -> None:
    model = classifier("cifar-resnet-8", "batch").eval()
    expected = {
        "library": 0,
        "fused": 0,
        "winograd": 6,
        "winograd-32": 3,
        "winograd-64": 1,
        "amx": 0,
        "amx-wgrad": 0,
    }
    assert expected.keys() == KERNELS.keys()
    for name, compiled in itertools.product(KERNELS, (False, True)):
        twin = accelerate(model, None, Way(name, compiled))
        assert isinstance(twin, Compiled) == compiled
        assert isinstance(twin.net, Rewritten)
        swaps = twin.net.swaps
        assert sum(isinstance(swap, WinogradConv) for swap in swaps) == expected[name]
        # That of the pixels is the kernel's beside Winograd's; fused none is, as it is in float32
        # whatever the rest is in.
        stems = sum(isinstance(swap, StemConv) for swap in swaps)
        assert stems == (expected[name] > 0 and not compiled)
        fused = sum(isinstance(swap, FusedConv) for swap in swaps)
        assert fused == (0 if compiled or name == "library" else 6 - expected[name])
    if not has_bf16_kernel():
        return
    half = accelerate(model, torch.bfloat16, Way("winograd-32")).net
    assert isinstance(half, Rewritten)
    kinds = [type(swap) for swap in half.swaps]
    assert kinds == [StemConv] + 3 * [FusedConv] + 3 * [WinogradConv]


@needs_compiler
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("arch", ["cifar-resnet-8", "wrn-10-2"])
def test_tiles_have_all_but_the_pixels(
    monkeypatch: pytest.MonkeyPatch, arch: str, dtype: torch.dtype | None
) -> None:
    """In bfloat16; elsewhere, and where there are none, convolutions are the library's, fused."""
    model = classifier(arch, "batch").eval()

    def kinds(kernel: str, compiled: bool = False) -> list[type]:
        net = accelerate(model, dtype, Way(kernel, compiled)).net
        assert isinstance(net, Rewritten)
        return [type(swap) for swap in net.swaps]

    fused, found = kinds("fused"), kinds("amx")
    if dtype is not None and has_tiles():
        convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
        # Emulated tiles have no kernel for the pixels beside them.
        stem = [StemConv] * has_bf16_kernel()
        assert found == stem + (convolutions - 1) * [AmxConv]
    else:
        assert found == fused
    assert kinds("amx", compiled=True) == []
    monkeypatch.setattr(twins, "has_tiles", lambda: False)
    assert kinds("amx") == fused
