"""The passes of a rewritten network give what torch's do, and keep no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.convolutions import both, fuses_in, needs_compiler
from helpers.wired import (
    GRAPHS,
    UNSUITED,
    Wire,
    Wired,
    check,
    exact,
    images,
    input_used_between,
    network,
    pre_activation,
    residual_of_images,
    strides,
)
from torch import Tensor, nn

from jeatcli.acceleration import steps
from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.native import finish as finishing
from jeatcli.acceleration.native import kernel
from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import KERNELS, Way

pytestmark = pytest.mark.usefixtures("tiles")
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
@pytest.mark.parametrize("name", ["winograd", "fused", "amx"])
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
        # Backward the last one, whose result goes to the mean.
        ("cifar-resnet-8", "winograd", [0, 1]),
        ("wrn-10-1", "winograd", [0, 1]),
        # Forward that of the pixels, whose convolution is torch's.
        ("cifar-resnet-8", "fused", [1, 1]),
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
    twin = accelerate(network(arch), None, Way(name))
    twin.net.unchecked = False
    both(twin, images())
    assert [passes.count(each) for each in (finishing.normalise, finishing.finish)] == expected


# The types of Winograd's convolutions and of the others.
TYPES: dict[str, dict[str, Any]] = {
    "winograd": {"winograd": torch.float32},
    "fused": {"fused": torch.float32},
    "both": {"winograd": HALF, "fused": HALF},
    "winograd in bf16": {"winograd": HALF, "fused": torch.float32},
    "fused in bf16": {"winograd": torch.float32, "fused": HALF},
    "tiles": {"fused": HALF, "amx": True},
}
ACTIVATED = [
    *((each, nn.ReLU) for each in TYPES),
    *((each, nn.SiLU) for each in ("both", "winograd in bf16", "tiles", "fused")),
]


@needs_compiler
@pytest.mark.parametrize(("types", "activation"), ACTIVATED)
@pytest.mark.parametrize("wire", [*GRAPHS, *UNSUITED])
def test_any_graph_has_the_same_gradients(
    wire: Wire, types: str, activation: type[nn.ReLU | nn.SiLU]
) -> None:
    given = TYPES[types]
    if not fuses_in(given.get("fused")):
        pytest.skip("needs a processor that computes in bfloat16")
    net, x = Wired(wire, activation=activation).eval(), torch.randn(2, 16, 7, 5)
    rewritten = Rewritten(net, **given)
    assert rewritten.passes is not None
    check(both(rewritten, x), exact(net, x), 0.2 if HALF in given.values() else 1e-5)
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
