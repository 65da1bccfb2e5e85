"""Operations as one call of the kernel give what they give one by one, to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from helpers.convolutions import both, fuses_in, needs_compiler
from helpers.wired import (
    GRAPHS,
    HALF,
    Wire,
    Wired,
    convolution_and_residual,
    convolutions_alone,
    network,
    pre_activation,
    residual_of_images,
)
from torch import Tensor, nn

from jeatcli.acceleration.chain import Chain, Part
from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.native.after import After
from jeatcli.acceleration.native.layout import Layout, Recording, Unknown
from jeatcli.acceleration.native.plan import Plan
from jeatcli.acceleration.native.tape import Call
from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import Way

pytestmark = [needs_compiler, pytest.mark.usefixtures("tiles")]
KINDS: dict[str, dict[str, Any]] = {
    "winograd": {"winograd": torch.float32},
    "all": {"winograd": torch.float32, "fused": torch.float32},
    "all in bf16": {"winograd": HALF, "fused": HALF},
    "winograd in bf16": {"winograd": HALF, "fused": torch.float32},
    "tiles": {"fused": HALF, "amx": True},
}


@pytest.fixture
def one_by_one() -> Callable[[Rewritten], Rewritten]:
    """Return the same network whose operations are done one by one."""

    def make(net: Rewritten) -> Rewritten:
        plain = copy.deepcopy(net)
        assert plain.passes is not None
        plain.passes.parts = [Part(part.steps, part.ends, part.kept) for part in plain.passes.parts]
        return plain

    return make


def chains(net: nn.Module) -> list[Chain]:
    assert isinstance(net, Rewritten)
    assert net.passes is not None
    return [part for part in net.passes.parts if isinstance(part, Chain)]


def equal(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    return all(map(torch.equal, ours, theirs))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions that Python has called, one by one."""
    functions: list[str] = []
    make = Call.make

    def counted(self: Call, *given: object) -> None:
        functions.append(self.function)
        make(self, *given)

    monkeypatch.setattr(Call, "make", counted)
    return functions


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wire", GRAPHS)
def test_every_graph_gives_the_same_to_the_bit(
    wire: Wire, kind: str, activation: type[nn.ReLU | nn.SiLU], one_by_one
) -> None:
    if HALF in KINDS[kind].values() and not fuses_in(HALF):
        pytest.skip("needs a processor that computes in bfloat16")
    torch.manual_seed(3)
    net = Rewritten(Wired(wire, activation=activation).eval(), **KINDS[kind])
    plain, x = one_by_one(net), torch.randn(4, 16, 7, 5)
    for count in (3, 1, 3, 4, 2):
        images = x[:count] if count != 4 else x.to(memory_format=torch.channels_last)
        assert equal(both(net, images), both(plain, images))
        with torch.no_grad():
            assert torch.equal(net(images), plain(images))


@pytest.mark.parametrize("name", ["winograd", "amx"])
@pytest.mark.parametrize("dtype", [None, HALF])
@pytest.mark.parametrize("arch", ["small", "cifar-resnet-8", "wrn-10-1", "resnet-18-v1"])
def test_python_makes_no_call_from_the_second_pass_on(
    made: list[str], arch: str, dtype: torch.dtype | None, name: str
) -> None:
    if not fuses_in(dtype):
        pytest.skip("needs a processor that computes in bfloat16")
    twin, x = accelerate(network(arch), dtype, Way(name)), torch.rand(3, 3, 13, 15)
    assert isinstance(twin.net, Rewritten)
    twin.net.unchecked = False
    both(twin, x)
    if not chains(twin.net):
        assert name == "amx"
        assert dtype is None  # in which it is what the library fuses
        return
    twin(x)
    assert made
    made.clear()
    both(twin, torch.rand(5, 3, 13, 15))
    twin(x[:1])
    # Of what a layer gives to the mean, which is autograd's, the ReLU alone.
    assert all(each.startswith("finish") for each in made)
    assert len(made) <= 1


def test_weights_may_change_and_move(made: list[str], one_by_one) -> None:
    net = Rewritten(Wired(pre_activation).eval(), torch.float32)
    x = torch.randn(3, 16, 7, 5)
    before = both(net, x)
    with torch.no_grad():
        for weight in net.net.parameters():
            weight.mul_(0.5)
    net.refresh()
    made.clear()
    changed = both(net, x)
    assert not made  # which finds the weights where they were
    assert not torch.equal(changed[0], before[0])
    assert equal(changed, both(one_by_one(net), x))
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data = module.bias.data + 1
    net.refresh()
    made.clear()
    moved = both(net, x)
    assert made
    assert not torch.equal(moved[0], changed[0])
    assert equal(moved, both(one_by_one(net), x))


def test_what_all_images_share_is_told_from_what_one_has(one_by_one) -> None:
    def wire(net: Wired, x: Tensor) -> Tensor:
        return net.c(net.act(net.b(x) + x[:1] * 2))

    net = Rewritten(Wired(wire).eval(), torch.float32)
    plain, x = one_by_one(net), torch.randn(3, 16, 7, 5)
    for count in (1, 3, 1, 2):
        assert equal(both(net, x[:count]), both(plain, x[:count]))


def test_torchs_default_device_is_not_the_kernels() -> None:
    net = Rewritten(Wired(convolutions_alone).eval(), torch.float32)
    x = torch.randn(2, 16, 7, 5)
    expected = net(x)
    with torch.device("meta"):
        assert torch.equal(net(x), expected)


def test_images_of_ever_new_sides_are_forgotten() -> None:
    net = Rewritten(Wired(convolutions_alone).eval(), torch.float32)
    for side in range(1, 41):
        both(net, torch.randn(2, 16, side, 3))
    (chain,) = chains(net)
    assert len(chain._forward) == len(chain._backward) == 16
    assert ((16, 40, 3), torch.float32) in {given for _, given in chain._forward}


@pytest.mark.parametrize("wire", [convolution_and_residual, residual_of_images])
def test_two_threads_may_pass_at_once(wire: Wire, one_by_one) -> None:
    net = Rewritten(Wired(wire).eval(), torch.float32)
    plain, x = one_by_one(net), torch.randn(8, 16, 17, 15)
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda count: both(net, x[:count]), [8, 3, 5, 8, 1, 2] * 4)]
    for ours, count in zip(found, [8, 3, 5, 8, 1, 2] * 4, strict=True):
        assert equal(ours, both(plain, x[:count]))


def test_one_graph_serves_many_sums(one_by_one) -> None:
    net = Rewritten(Wired(convolution_and_residual).eval(), torch.float32)
    plain, x = one_by_one(net), torch.randn(3, 16, 7, 5)
    both(net, x)
    found = []
    for each in (net, plain):
        z = x.clone().requires_grad_()
        first, second = each(z), each(z * 2)
        sums = (first[:, 0].sum(), second.sum(), first[:, 5].sum())
        found.append([torch.autograd.grad(one, z, retain_graph=True)[0] for one in sums])
    assert equal(*found)


def test_what_nothing_reads_any_more_leaves_its_room() -> None:
    net = Rewritten(Wired(convolutions_alone).eval(), torch.float32)
    with torch.no_grad():
        net(torch.randn(2, 16, 8, 8))
    (chain,) = chains(net)
    (found,) = (found for (wanted, *_), found in chain._forward.items() if not wanted)
    assert found is not None
    assert found.plan._room == [4 * 16 * 8 * 8] * 2  # a result, and that of the next one


def call(x: Tensor, out: Tensor | None, after: After | None = None) -> Call:
    n, channels, *sides = x.shape
    return Call("finish", x, None, out, after or After(), (n * sides[0] * sides[1], channels))


def images(channels: int = 16) -> Tensor:
    return torch.randn(2, channels, 4, 4).to(memory_format=torch.channels_last)


def test_a_larger_one_enlarges_room_that_is_free() -> None:
    x, small, large, end = images(), images(), images(32), images()
    calls = [
        call(x, small),
        call(small, end, After(more=small)),
        Call("point", end, None, large, After(), (2, 4, 4, 16, 32)),
    ]
    assert Layout(Recording(calls, 2, [x], [], [end])).room == [4 * 32 * 16]


def test_of_free_room_the_one_that_fits_is_taken() -> None:
    x, wide, thin, other, end = images(), images(32), images(), images(), images(32)
    calls = [
        Call("point", x, None, wide, After(), (2, 4, 4, 16, 32)),
        Call("point", wide, None, thin, After(), (2, 4, 4, 32, 16)),
        call(thin, other),
        Call("point", thin, None, end, After(), (2, 4, 4, 16, 32)),
    ]
    layout = Layout(Recording(calls, 2, [x], [], []))
    assert layout.room == [4 * 32 * 16, 4 * 16 * 16]
    assert layout.blocks[end.data_ptr()] == layout.blocks[wide.data_ptr()] == 2


@pytest.mark.parametrize("what", ["read", "part", "in place", "result"])
def test_what_else_was_done_is_noticed(what: str) -> None:
    x, out = images(), images()
    given = {
        "read": ([call(images(), out)], [out]),
        "part": ([call(x[:, :, :2], out)], [out]),
        "in place": ([call(x, x)], [x]),
        "result": ([call(x, out)], [images()]),
    }
    calls, results = given[what]
    with pytest.raises(Unknown):
        Plan(Recording(calls, 2, [x], [], results))


def test_weights_live_as_long_as_their_addresses() -> None:
    x, out, scale = images(), images(), torch.full((16,), 2.0)
    plan = Plan(Recording([call(x, out, After(scale=scale))], 2, [x], [scale], [out]))
    scale.data = torch.zeros(16)
    _ = [torch.zeros(16) for _ in range(100)]
    (found,) = plan.run(2, [x])
    assert torch.equal(found, 2 * x)


def test_chains_are_of_the_kernels_operations_alone() -> None:
    net = Rewritten(Wired(pre_activation).eval(), torch.float32)
    assert net.passes is not None
    parts = [(type(part), [step.out for step in part.steps]) for part in net.passes.parts]
    assert parts == [
        (Part, ["net_act"]),  # the normalisation before it has no convolution of the kernel's
        (Chain, ["net_a"]),
        (Part, ["net_one"]),  # torch's
        (Chain, ["net_b", "net_act_2", "net_down"]),
    ]
    assert [step for part in net.passes.parts for step in part.steps] == net.passes.steps
