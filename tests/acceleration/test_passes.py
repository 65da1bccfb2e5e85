"""The passes of a rewritten network give what torch's do, and keep no more."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.convolutions import both, needs_compiler
from helpers.networks import classifier
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from jeatcli.acceleration import steps
from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.twins import accelerate, attach_twin
from jeatcli.acceleration.ways import KERNELS, Way
from jeatcli.acceleration.winograd import finish as finishing
from jeatcli.acceleration.winograd import kernel
from jeatcli.acceleration.winograd.after import After
from jeatcli.core.models.classifier import Classifier, Network, frozen

HALF = torch.bfloat16
ARCHITECTURES = [
    "small",
    "cifar-resnet-8",
    "cifar-resnet-b-8",
    "wrn-10-1",
    "jem-wrn-10-1",
    "dm-wrn-10-1",
    "resnet-18",
    "resnet-18-v1-pool",
]


def randomise(net: nn.Module) -> None:
    """Give the weights and the normalisations values that training might, negative ones too."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
            module.weight.data[::5] = 0
            nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.kaiming_normal_(module.weight)


def network(arch: str, norm: str = "batch", activation: str = "relu", side: int = 13) -> Classifier:
    model = classifier(arch, norm, (3, side, side + 2), activation)
    randomise(model)
    return model.eval().requires_grad_(False)


def exact(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    return both(copy.deepcopy(module).double(), x.double())


def check(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], most: float) -> None:
    """Compare outputs and gradients by the root mean square of their errors."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        error = (ours.double() - theirs).square().mean().sqrt()
        assert error <= most * theirs.square().mean().sqrt()


# Of architectures


@needs_compiler
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_every_architecture_has_the_same_gradients(arch: str, norm: str) -> None:
    model, x = network(arch, norm), torch.randn(2, 3, 13, 15)
    expected = exact(model.net, x)
    for name in ("winograd", "fused"):
        twin = accelerate(model, None, Way(name))
        assert isinstance(twin.net, Rewritten)
        assert twin.net.passes is not None
        check(both(twin.net, x), expected, 1e-4)
        assert twin.net.passes is not None


@needs_compiler
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("arch", ["wrn-10-2", "jem-wrn-10-2", "cifar-resnet-8"])
def test_so_has_every_kernel_in_either_type(arch: str, activation: str, name: str) -> None:
    model, x = network(arch, activation=activation), torch.rand(3, 3, 13, 15)
    expected = both(model, x)  # in float32, whose rounding is nothing beside
    check(both(accelerate(model, None, Way(name)), x), expected, 1e-4)
    library = both(accelerate(model, HALF), x)
    for ours, theirs, best in zip(
        both(accelerate(model, HALF, Way(name)), x), library, expected, strict=True
    ):
        # Where a shortcut has no weights, torch's autocast keeps its way in float32; we round it.
        assert (ours - best).norm() < 3 * (theirs - best).norm() + 0.05 * best.norm()


@needs_compiler
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("name", ["winograd", "fused"])
@pytest.mark.parametrize("dtype", [None, HALF])
def test_batches_may_have_any_size(count: int, name: str, dtype: torch.dtype | None) -> None:
    twin, x = accelerate(network("wrn-10-1"), dtype, Way(name)), torch.rand(3, 3, 13, 15)
    logits, gradient = both(twin, x[:count])
    assert logits.shape == (count, 10)
    assert gradient.shape == (count, 3, 13, 15)
    torch.testing.assert_close(logits, twin(x)[:count], rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize(
    ("arch", "name", "expected"),
    [
        # That of the pixels, and backward the last one too, whose result goes to the mean.
        ("cifar-resnet-8", "winograd", [1, 2]),
        ("cifar-resnet-8", "fused", [1, 2]),
        # Backward the last one alone: a projection passes its share on to the other convolution.
        ("wrn-10-1", "winograd", [1, 1]),
        # The library normalises nothing.
        ("wrn-10-1", "fused", [4, 1]),
    ],
)
def test_few_activations_take_a_pass_over_memory(
    monkeypatch, arch: str, name: str, expected: list[int]
) -> None:
    passes: list[Callable] = []
    for each in (finishing.finish, finishing.normalise):

        def run(*given: Any, each: Callable = each) -> Tensor:
            passes.append(each)
            return each(*given)

        monkeypatch.setattr(steps, each.__name__, run)
    both(accelerate(network(arch), None, Way(name)), images())
    assert [passes.count(each) for each in (finishing.normalise, finishing.finish)] == expected


# Of graphs


class Wired(Network):
    """A few layers in any order."""

    foldable = True

    def __init__(self, wire: Wire, channels: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Conv2d(channels, channels, 3, 1, 1) for _ in range(3))
        self.down = nn.Conv2d(channels, channels, 3, 2, 1, bias=False)
        self.one = nn.Conv2d(channels, channels, 1)
        self.norm, self.other = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.plain = nn.BatchNorm2d(channels, affine=False)
        self.act, self.act_ = nn.ReLU(), nn.ReLU(inplace=True)
        self.leaky, self.nothing = nn.LeakyReLU(0.2), nn.Identity()
        self.gain = nn.Parameter(torch.tensor(2.0))
        for norm in (self.norm, self.other):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            norm.weight.data[:3] = 0
        for norm in (self.norm, self.other, self.plain):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
        self.wire = wire

    def features(self, x: Tensor) -> Tensor:
        return self.wire(self, x)

    def head(self, features: Tensor) -> Tensor:
        return features


Wire = Callable[[Wired, Tensor], Tensor]


def two_convolutions(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.act(net.one(h)) * net.c(h)


def convolution_and_residual(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.c(net.act(net.b(h) + h))


def convolutions_alone(net: Wired, x: Tensor) -> Tensor:
    return net.c(net.b(net.a(x)))


def residual_first(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    y = net.act(net.b(x) + h)
    return net.c(h) + y


def its_own_residual(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    twice = h + h
    return net.act(net.b(twice) + twice)


def residual_of_images(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.act(net.a(x) + x)) + x


def activation_twice(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(net.act(h)) + net.act(h) * net.c(net.act(h))


def two_normalisations_of_one(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(net.act(net.norm(h))) + net.c(net.act(net.other(h)))


def normalised_and_not(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.c(net.act(net.norm(net.b(net.act(net.other(h))) + h))) + h


def input_used_between(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    normed = net.act(net.norm(h))
    between = h * 3
    return net.b(normed) + between.sin() + h.cos() + net.c(normed)


def normalised_alone(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.norm(net.act(net.a(x))))


def pre_activation(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.norm(x))
    h = net.b(net.act(net.plain(net.a(h)))) + net.one(h)
    return net.down(net.act(net.other(h)))


def activation_of_a_sum(net: Wired, x: Tensor) -> Tensor:
    total = net.a(x) + net.b(x)
    return net.c(net.act(total)) + total.sigmoid()


def result_is_activation(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.norm(net.a(x)))


def result_is_cut_convolution(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.a(x))


def result_used_again(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    net.b(h)
    return h


def result_used_by_another(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    h.sin()
    return h


def result_is_normalised_and_used(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.norm(x))
    net.a(h)
    return h * 1


def nothing_of_a_convolution(net: Wired, x: Tensor) -> Tensor:
    return net.nothing(net.a(net.nothing(x)))


def dead_first_user(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    net.act(net.b(h))
    return net.c(h)


def first_user_without_gradient(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    normed = net.act(net.norm(x))
    return net.b(h).detach() + net.c(h) * net.c(normed).detach() + net.b(normed)


def dead_normalisation(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    net.act(net.norm(h))
    return net.b(net.act(net.other(h)))


def images_used_later(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.act(net.a(x))) * x.sigmoid() + x[:, :1]


def activated(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.norm(net.leaky(net.a(x))))


def strides(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.down(net.act(net.a(x))))
    return net.one(net.act(net.one(h)) + h) + net.down(x)


def smooth(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.leaky(net.norm(net.a(net.leaky(x)))))


def residual_of_one_pixel(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x) + x.mean((2, 3), keepdim=True))
    return net.act(net.one(h) + h[:, :1]) + net.gain


def residual_is_a_number(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.down(net.act(net.a(x) + net.gain)) + net.gain)


def chunks(net: Wired, x: Tensor) -> Tensor:
    first, second = torch.chunk(net.act(net.a(x)), 2, 1)
    return net.b(torch.cat([second, first.sin()], 1))


def gains(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.a(x) * net.gain.view(1, 1, 1)) * net.gain + net.gain.detach().exp()


def sizes(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.b(h).reshape(h.size(0), -1) / h.shape[1]


def in_place(net: Wired, x: Tensor) -> Tensor:
    h = 2 * net.leaky(net.a(x))
    net.c(h).sin()
    h.add_(x)
    return net.b(h) * h


def activation_in_place(net: Wired, x: Tensor) -> Tensor:
    h = net.norm(net.act_(net.a(x)) + x * 2)
    net.act_(h)
    return net.b(h) + h


GRAPHS = [
    two_convolutions,
    convolution_and_residual,
    convolutions_alone,
    residual_first,
    its_own_residual,
    residual_of_images,
    activation_twice,
    two_normalisations_of_one,
    normalised_and_not,
    input_used_between,
    normalised_alone,
    pre_activation,
    activation_of_a_sum,
    result_is_activation,
    result_is_cut_convolution,
    result_used_again,
    result_used_by_another,
    result_is_normalised_and_used,
    nothing_of_a_convolution,
    dead_first_user,
    first_user_without_gradient,
    dead_normalisation,
    images_used_later,
    activated,
    strides,
    smooth,
    residual_of_one_pixel,
    residual_is_a_number,
    gains,
    sizes,
]
UNSUITED = [chunks, in_place, activation_in_place]
# The types of Winograd's convolutions and of the others.
TYPES = {
    "winograd": (torch.float32, None),
    "fused": (None, torch.float32),
    "both": (HALF, HALF),
    "winograd in bf16": (HALF, torch.float32),
    "fused in bf16": (torch.float32, HALF),
}


@needs_compiler
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("wire", [*GRAPHS, *UNSUITED])
def test_any_graph_has_the_same_gradients(wire: Wire, types: str) -> None:
    winograd, fused = TYPES[types]
    net, x = Wired(wire).eval(), torch.randn(2, 16, 7, 5)
    rewritten = Rewritten(net, winograd, 0, fused)
    assert rewritten.passes is not None
    check(both(rewritten, x), exact(net, x), 0.2 if HALF in (winograd, fused) else 1e-5)
    assert (rewritten.passes is None) == (wire in UNSUITED)
    # What the result is, no gradient being asked for.
    with torch.no_grad():
        check((rewritten(x),), (rewritten.body(x).double(),), 0.02)


@pytest.mark.parametrize("viewed", [False, True])
def test_images_that_are_changed_in_place_are_changed_once(viewed: bool) -> None:
    def wire(net: Wired, x: Tensor) -> Tensor:
        (x.view(-1) if viewed else x).mul_(2)
        return net.c(net.act(net.a(x)))

    net, x = Wired(wire).eval(), torch.randn(2, 16, 7, 5).requires_grad_()
    rewritten = Rewritten(net, None, 0, torch.float32)
    torch.testing.assert_close(rewritten.features(x * 1), net.features(x * 1))
    assert rewritten.passes is None


@needs_compiler
@pytest.mark.parametrize("wire", [pre_activation, input_used_between, strides])
def test_channels_may_be_no_multiple_of_the_lanes(wire: Wire) -> None:
    net, x = Wired(wire, channels=6).eval(), torch.randn(2, 6, 7, 5)
    for dtype, most in ((torch.float32, 1e-5), (HALF, 0.2)):
        check(both(Rewritten(net, dtype, 0, dtype), x), exact(net, x), most)


@needs_compiler
def test_fused_convolutions_are_the_same_whether_the_kernel_was_built_before(anew) -> None:
    net, x = Wired(pre_activation).eval(), torch.randn(2, 16, 7, 5)
    first = both(Rewritten(net, None, 0, HALF), x)
    assert kernel.kernel() is not None
    for one, other in zip(first, both(Rewritten(net, None, 0, HALF), x), strict=True):
        assert torch.equal(one, other)


def test_fused_convolutions_need_no_command_for_a_compiler(monkeypatch, anew) -> None:
    monkeypatch.setenv("CXX", "'")
    net, x = Wired(pre_activation).eval(), torch.randn(2, 16, 7, 5)
    check(both(Rewritten(net, None, 0, torch.float32), x), exact(net, x), 1e-5)


@pytest.mark.parametrize("wire", [pre_activation, input_used_between, residual_of_images])
def test_without_a_compiler_it_is_the_same(monkeypatch, anew, wire: Wire) -> None:
    monkeypatch.setenv("CXX", "false")
    net, x = Wired(wire).eval(), torch.randn(2, 16, 7, 5)
    for dtype, most in ((torch.float32, 1e-5), (HALF, 0.2)):
        check(both(Rewritten(net, dtype, 0, dtype), x), exact(net, x), most)


# Of what follows a convolution


def layers(dtype: torch.dtype, channels: int, last: bool) -> list[Tensor]:
    """Return four arrays of pixels with NaN, infinities and zeros, and three of channels."""
    form = torch.channels_last if last else torch.contiguous_format
    torch.manual_seed(0)
    pixels = [torch.randn(2, channels, 3, 5) for _ in range(4)]
    for each in pixels:
        each.view(-1)[torch.randperm(each.numel())[:6]] = torch.tensor([0, -0.0, 1, 1, -1, 1])
        each.view(-1)[torch.randperm(each.numel())[:3]] = torch.tensor([1, -1, 0]) / 0
    scales = torch.tensor([-1.0, 0, 2]).repeat(channels)[:channels], torch.randn(channels)
    return [*(each.to(dtype).contiguous(memory_format=form) for each in pixels), *scales]


@pytest.fixture(params=[True, False])
def built(request, monkeypatch) -> None:
    """Compute with the kernel, and without."""
    if not request.param:
        monkeypatch.setattr(finishing, "kernel", lambda: None)
    elif kernel.kernel() is None:
        pytest.skip("needs a C++ compiler")


SHAPES = [(16, True), (80, True), (6, True), (16, False)]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize(("channels", "last"), SHAPES)
def test_what_follows_a_gradient(channels: int, last: bool, dtype: torch.dtype) -> None:
    x, residual, cut, more, scale, _ = layers(dtype, channels, last)
    by_channel = scale.double()[:, None, None]
    for chosen in range(16):
        after, expected = After(), x.double()
        if chosen & 1:
            after, expected = after._replace(residual=residual), expected + residual.double()
        if chosen & 2:
            after = after._replace(cut=cut)
            # As torch does, NaN lets a gradient through.
            expected = torch.ops.aten.threshold_backward(expected, cut.double(), 0)
        if chosen & 4:
            after, expected = after._replace(scale=scale), expected * by_channel
        if chosen & 8:
            after, expected = after._replace(more=more), expected + more.double()
        found = finishing.finish(x, after.last())
        assert found.dtype is dtype
        assert (found is x) == (chosen == 0)
        rtol = 0.02 if dtype is HALF else 1e-5
        torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=rtol, equal_nan=True)


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize(("channels", "last"), SHAPES)
def test_a_normalisation_and_its_relu(channels: int, last: bool, dtype: torch.dtype) -> None:
    x, *_, scale, shift = layers(dtype, channels, last)
    found = finishing.normalise(x, scale, shift)
    expected = (x.double() * scale[:, None, None] + shift[:, None, None]).relu()
    assert found.dtype is dtype
    rtol = 0.01 if dtype is HALF else 1e-5
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=rtol, equal_nan=True)
    found = finishing.normalise(x, None, None)
    torch.testing.assert_close(found, x.relu(), rtol=0, atol=0, equal_nan=True)


# Of autograd


@pytest.fixture(params=["winograd", "fused"])
def twin(request) -> Classifier:
    """A network with ReLUs after normalisations, and a twin of it."""
    return accelerate(network("wrn-10-1"), None, Way(request.param))


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 13, 15, generator=torch.Generator().manual_seed(0))


def held(function: Callable[[], object]) -> tuple[int, object]:
    """Return the bytes that a function allocates and does not free, and what it returns."""
    gc.collect()
    gc.disable()  # what others have left is not freed meanwhile, nor a cycle of the function's
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            result = function()
    finally:
        gc.enable()
    return sum(event.self_cpu_memory_usage for event in seen.events()), result


@needs_compiler
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_is_the_same(twin: Classifier, mode: type) -> None:
    expected = twin(images())
    with mode():
        out = twin(images().requires_grad_())
    assert not out.requires_grad
    torch.testing.assert_close(out, expected)
    assert not twin(images()).requires_grad


@needs_compiler
@pytest.mark.parametrize("wanted", [True, False])
def test_without_gradients_a_value_lives_until_its_last_user(wanted: bool) -> None:
    def wire(net: Wired, x: Tensor) -> Tensor:
        return net.nothing(net.c(net.nothing(net.act(net.norm(net.leaky(x))))))

    net, given, alive = Wired(wire), [], []

    def look(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        alive.extend(storage() is not None for storage in given)
        given.append(weakref.ref(args[0].untyped_storage()))

    rewritten = Rewritten(net.eval(), torch.float32)
    net.nothing.register_forward_hook(look)
    with torch.set_grad_enabled(wanted):
        rewritten(torch.randn(2, 16, 7, 5).requires_grad_())
    assert alive == [wanted]


@needs_compiler
def test_one_graph_serves_many_sums(twin: Classifier) -> None:
    """As FAB asks for the gradient of each difference of logits."""
    model, x = twin.net.net, images().requires_grad_()
    out = twin.net(x)
    for number in range(3):
        (found,) = torch.autograd.grad(out[:, number].sum(), x, retain_graph=True)
        (expected,) = torch.autograd.grad(model(x)[:, number].sum(), x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.autograd.grad(out[:, 0].sum(), x)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(out[:, 0].sum(), x)


@needs_compiler
def test_a_second_derivative_is_refused(twin: Classifier) -> None:
    x = images().requires_grad_()
    (slope,) = torch.autograd.grad(twin(x).exp().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.square().sum().backward()


@needs_compiler
def test_images_may_be_computed_and_used_again(twin: Classifier) -> None:
    found = []
    for net in (twin.net, twin.net.net):
        x = images().requires_grad_()
        (net(x.sigmoid() * 2) * net(x).sum()).sum().backward()
        found.append(x.grad)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4 * found[1].abs().max().item())


@needs_compiler
def test_the_result_may_be_changed_in_place(twin: Classifier) -> None:
    (expected,) = torch.autograd.grad(twin.net.features(x := images().requires_grad_()).sum(), x)
    (found,) = torch.autograd.grad(twin.net.features(x).mul_(2).sum(), x)
    torch.testing.assert_close(found, 2 * expected)


@needs_compiler
def test_what_is_kept_may_not_be_changed() -> None:
    x = torch.randn(2, 16, 7, 5).requires_grad_()
    out = Rewritten(Wired(activated).eval(), torch.float32)(x)
    out.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@needs_compiler
def test_threads_do_not_meet(twin: Classifier) -> None:
    given = [torch.rand(2, 3, 13, 15) for _ in range(4)]
    expected, found = [both(twin, x) for x in given], {}

    def run(number: int) -> None:
        for _ in range(5):
            found[number] = both(twin, given[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, pair in enumerate(expected):
        for one, other in zip(found[number], pair, strict=True):
            assert torch.equal(one, other)


@needs_compiler
def test_another_thread_may_go_backward() -> None:
    twin = accelerate(network("wrn-10-1", activation="silu"), None, Way("winograd"))
    out = twin(x := images().requires_grad_())
    (expected,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
    found: list[Tensor] = []

    def run() -> None:
        found.extend(torch.autograd.grad(out.sum(), x, retain_graph=True))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(torch.equal(each, expected) for each in found)


@needs_compiler
@pytest.mark.parametrize("dtype", [None, HALF])
def test_an_autocast_around_it_changes_nothing(dtype: torch.dtype | None) -> None:
    twin = accelerate(network("wrn-10-1", activation="silu"), dtype, Way("winograd"))
    expected = both(twin.features, images())
    with torch.autocast("cpu", HALF, enabled=dtype is None):
        found = both(twin.features, images())
    for one, same in zip(found, expected, strict=True):
        assert one.dtype is torch.float32
        assert torch.equal(one, same)


@needs_compiler
def test_weights_may_not_change_before_the_backward_pass(twin: Classifier) -> None:
    out = twin(images().requires_grad_())
    twin.net.refresh()
    with pytest.raises(RuntimeError, match="weights were updated"):
        out.sum().backward()


@needs_compiler
@pytest.mark.parametrize("wire", [pre_activation, convolution_and_residual, result_is_activation])
def test_what_is_not_finite_goes_where_torch_lets_it(wire: Wire) -> None:
    net, x = Wired(wire).eval(), torch.randn(3, 16, 16, 16)
    x[0, :, 3, 3], x[1, 2, 3, 3] = torch.nan, torch.inf
    found, expected = both(Rewritten(net, torch.float32), x), both(net, x)
    for ours, theirs in zip(found, expected, strict=True):
        # Winograd's tiles spread it to their other pixels.
        assert ours[~theirs.isfinite()].isfinite().sum() == 0
        assert ours[2].isfinite().all()
        assert not ours.isfinite().logical_not().all()


# Of memory


@needs_compiler
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("arch", ["wrn-10-2", "cifar-resnet-8", "small"])
def test_no_more_is_kept_than_autograd_keeps(arch: str, activation: str) -> None:
    model, x = network(arch, activation=activation), images(8).requires_grad_()
    for name in ("winograd", "fused"):
        net = accelerate(model, None, Way(name)).net
        assert isinstance(net, Rewritten)
        ours, _ = held(lambda net=net: net(x))
        theirs, _ = held(lambda net=net: net.head(net.body(x)))
        assert ours <= 1.02 * theirs
        assert ours > 20 * x.nbytes


@needs_compiler
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_backward_pass_frees_what_was_kept(activation: str) -> None:
    twin = accelerate(network("wrn-10-1", activation=activation), None, Way("winograd"))
    x = images(8).requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        out = twin(x)
        return out, torch.autograd.grad(out.sum(), x)[0]

    after, _ = held(run)
    dropped, _ = held(lambda: twin(x).sum().item())
    assert after < 2 * x.nbytes + 4096
    assert dropped < 4096
    record = twin.net.features(x).grad_fn.record
    assert not record.values
    assert not record.saved.tensors


@needs_compiler
def test_what_the_images_do_not_change_gets_no_gradient() -> None:
    def wire(net: Wired, x: Tensor) -> Tensor:
        return net.c(net.a(x) * net.gain.exp())  # else the factor is kept

    net = Rewritten(Wired(wire).eval().requires_grad_(False), torch.float32)
    x = torch.randn(2, 16, 16, 16).requires_grad_()
    kept, out = held(lambda: net(x))
    assert kept < 1.5 * out.nbytes


# Of networks


@needs_compiler
@pytest.mark.parametrize("name", ["winograd", "fused"])
def test_it_follows_the_weights_and_the_statistics(name: str) -> None:
    model, x = network("wrn-10-1"), images()
    attach_twin(model, Way(name))
    for _ in range(2):
        with frozen(model) as still:
            assert isinstance(still.net, Rewritten)
            assert still.net.passes is not None
            check(both(still.net, x), exact(model.net, x), 1e-4)
        randomise(model)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn_like(weight))


@needs_compiler
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda twin: pickle.loads(pickle.dumps(twin))])
def test_a_copy_stands_for_itself(twin: Classifier, copied: Callable) -> None:
    before = both(twin, images())
    other = copied(twin)
    assert other.state_dict().keys() == twin.state_dict().keys()
    assert isinstance(other.net, Rewritten)
    assert other.net.passes is not None
    for one, same in zip(both(other, images()), before, strict=True):
        assert torch.equal(one, same)
    randomise(other.net.net)
    with torch.no_grad():
        for weight in other.net.net.parameters():
            weight.mul_(1.1)
    other.net.refresh()
    check(both(other.net, images()), exact(other.net.net, images()), 1e-4)
    for one, same in zip(both(twin, images()), before, strict=True):
        assert torch.equal(one, same)


@needs_compiler
def test_its_passes_are_no_part_of_the_state() -> None:
    net = network("wrn-10-1").net
    states = [Rewritten(net, torch.float32, own_passes=own).state_dict() for own in (True, False)]
    assert [*states[0]] == [*states[1]]


def test_a_norm_without_statistics_is_torchs() -> None:
    def wire(net: Wired, x: Tensor) -> Tensor:
        return net.a(net.act(net.free(x)))

    net = Wired(wire)
    net.free = nn.BatchNorm2d(16, track_running_stats=False)
    net, x = net.eval(), torch.randn(3, 16, 7, 5)
    check(both(Rewritten(net, None, 0, torch.float32), x), exact(net, x), 1e-5)
