"""The passes of a rewritten network have autograd's manners, and keep no more than it."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable

import pytest
import torch
from helpers.convolutions import both, needs_compiler
from helpers.wired import (
    Wire,
    Wired,
    activated,
    check,
    convolution_and_residual,
    exact,
    images,
    network,
    pre_activation,
    randomise,
    result_is_activation,
)
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.twins import accelerate, attach_twin
from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import Classifier, frozen

HALF = torch.bfloat16


@pytest.fixture(params=["winograd", "fused"])
def twin(request) -> Classifier:
    """A network with ReLUs after normalisations, and a twin of it."""
    return accelerate(network("wrn-10-1"), None, Way(request.param))


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

    net.nothing.register_forward_hook(look)  # an identity that does something stays
    rewritten = Rewritten(net.eval(), torch.float32)
    rewritten.unchecked = False
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
        # Of a ReLU the kernel keeps a bit for each number of 32.
        masks = name == "winograd" and activation == "relu"
        assert ours <= (1.5 / 32 if masks else 1.02) * theirs
        assert ours > (0.5 if masks else 20) * x.nbytes


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
    ((record, _),) = twin.net.features(x).grad_fn.records
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
