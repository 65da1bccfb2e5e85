"""Winograd's convolutions against torch's in float64, and what happens where they cannot be had."""

from __future__ import annotations

import copy
import ctypes
import itertools
import operator
import os
import shutil

import pytest
import torch
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.acceleration.compiled import Compiled
from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.fused import FusedConv
from jeatcli.acceleration.twins import accelerate, attach_twin
from jeatcli.acceleration.ways import KERNELS, Way
from jeatcli.acceleration.winograd import convolution, kernel
from jeatcli.acceleration.winograd.convolution import LearningConv, WinogradConv, fits, install
from jeatcli.core.models.classifier import Network, frozen
from jeatcli.errors import UsageProblem

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """Let a test build a kernel of its own, in an empty cache."""
    monkeypatch.setenv("JEAT_CACHE_DIR", str(tmp_path))
    kernel.kernel.cache_clear()
    yield
    kernel.kernel.cache_clear()


def conv(inputs: int, outputs: int, bias: bool = True, stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias).requires_grad_(False)


def both(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a module's outputs and the gradient by the images of a weighted sum of them."""
    x = x.clone().requires_grad_(True)
    out = module(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    return out.detach(), gradient


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

    def ways(function, x: Tensor, added: Tensor) -> tuple[Tensor, ...]:
        x = x.clone().requires_grad_(True)
        added = added.clone().requires_grad_(residual == "wants a gradient")
        out = function(x, None if residual == "none" else added)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        wanted = [x, added] if added.requires_grad else [x]
        return out, *torch.autograd.grad((out * weights).sum(), wanted)

    def exact(x: Tensor, added: Tensor | None) -> Tensor:
        out = plain.double()(x) if added is None else plain.double()(x) + added
        return out.relu() if relu else out

    fast = WinogradConv(plain)
    fast.relu = relu
    mine = ways(fast, x, added)
    for ours, theirs in zip(mine, ways(exact, x.double(), added.double()), strict=True):
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
@pytest.mark.skipif(
    "avx512" not in torch.backends.cpu.get_cpu_capability().lower(), reason="needs AVX-512"
)
@pytest.mark.parametrize("stride", [1, 2])
def test_shorter_vectors_give_the_same(monkeypatch, anew, stride: int) -> None:
    plain, x = conv(48, 32, stride=stride), torch.randn(3, 48, 9, 8)
    long = both(WinogradConv(plain), x)
    monkeypatch.setattr(kernel, "_FLAGS", (*kernel._FLAGS, "-mno-avx512f"))
    kernel.kernel.cache_clear()
    library = kernel.kernel()
    assert library is not None
    assert library.lanes() == 8
    for one, other in zip(both(WinogradConv(plain), x), long, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


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
    torch.library.opcheck(convolution._learn, (given, weight, stride))


@needs_compiler
def test_what_it_stands_for() -> None:
    assert fits(conv(16, 32))
    assert fits(nn.Conv2d(16, 16, 3, padding="same"))
    assert fits(nn.Conv2d(16, 16, 3, 2, 1))
    others = [
        nn.Conv2d(3, 16, 3, 1, 1),
        nn.Conv2d(16, 24, 3, 1, 1),
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
    expected = {"library": 0, "fused": 0, "winograd": 6, "winograd-32": 3, "winograd-64": 1}
    assert expected.keys() == KERNELS.keys()
    for name, compiled in itertools.product(KERNELS, (False, True)):
        twin = accelerate(model, None, Way(name, compiled))
        assert isinstance(twin, Compiled) == compiled
        assert isinstance(twin.net, Rewritten)
        swaps = twin.net.swaps
        assert sum(isinstance(swap, WinogradConv) for swap in swaps) == expected[name]
        # The first convolution of all is in float32 whatever the rest is in.
        fused = sum(isinstance(swap, FusedConv) for swap in swaps)
        assert fused == (6 if name == "fused" and not compiled else 0)
    half = accelerate(model, torch.bfloat16, Way("winograd-32")).net
    assert isinstance(half, Rewritten)
    assert len(half.swaps) == 6
    assert sum(isinstance(swap, FusedConv) for swap in half.swaps) >= 4


@pytest.mark.parametrize("compiler", ["/nonexistent/g++", "false"])
def test_without_a_compiler_nothing_is_rewritten(
    monkeypatch, anew, tmp_path, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert not fits(conv(16, 16))
    assert not list(tmp_path.rglob("*.so"))


@needs_compiler
def test_the_kernel_is_built_once(anew, tmp_path) -> None:
    assert fits(conv(16, 16))
    (built,) = tmp_path.rglob("*.so")
    before = built.stat().st_mtime_ns
    kernel.kernel.cache_clear()
    assert fits(conv(16, 16))
    assert built.stat().st_mtime_ns == before


@needs_compiler
def test_a_broken_file_in_the_cache_is_no_error(monkeypatch, anew) -> None:
    monkeypatch.setattr(kernel, "_compile", lambda compiler, to: to.write_bytes(b"broken"))
    assert not fits(conv(16, 16))


@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "changed", "writable", "link"])
def test_a_library_that_may_not_be_ours_is_not_loaded(anew, tmp_path, damage: str) -> None:
    """A cut library ends the process by SIGBUS, another user's runs whatever is in it."""
    assert fits(conv(16, 16))
    (built,) = tmp_path.rglob("*.so")
    whole = built.read_bytes()
    if damage in ("cut", "changed"):
        built.unlink()  # this process has the file mapped
        built.write_bytes(whole[: len(whole) // 2] if damage == "cut" else whole + b"0")
        built.chmod(0o600)
    elif damage == "writable":
        built.chmod(0o666)
    else:
        elsewhere = tmp_path / "elsewhere.bin"
        built.rename(elsewhere)
        built.symlink_to(elsewhere)
    kernel.kernel.cache_clear()
    assert fits(conv(16, 16))
    (built,) = tmp_path.rglob("*.so")
    assert built.read_bytes() == whole
    assert not built.is_symlink()
    assert built.stat().st_mode & 0o777 == 0o600
    assert built.parent.stat().st_mode & 0o777 == 0o700


@needs_compiler
def test_where_another_user_owns_the_cache_the_kernel_is_built_elsewhere(
    monkeypatch, anew, tmp_path
) -> None:
    loaded: list[str] = []
    load = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda path: loaded.append(path) or load(path))
    assert fits(conv(16, 16))
    (kept,) = tmp_path.rglob("*.so")
    assert loaded == [str(kept)]
    monkeypatch.setattr(os, "getuid", lambda: kept.stat().st_uid + 1)
    kernel.kernel.cache_clear()
    assert fits(conv(16, 16))
    assert not loaded[1].startswith(str(tmp_path))
    assert not os.path.exists(loaded[1])


def test_a_compiler_that_is_no_command_is_an_error(monkeypatch, anew) -> None:
    monkeypatch.setenv("CXX", "'")
    with pytest.raises(UsageProblem, match="environment variable CXX, `'`, is not a command"):
        fits(conv(16, 16))
