"""A large batch goes through a network in pieces, and nobody can tell."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.convolutions import both, needs_compiler
from helpers.networks import classifier
from helpers.wired import Wired, check, exact, images, network, pre_activation
from torch import Tensor

from jeatcli.acceleration import passes, pieces
from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.passes import Passes
from jeatcli.acceleration.pieces import together
from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import Classifier

MEBI = 1 << 20


def in_pieces(classifier: Classifier) -> Passes:
    assert isinstance(classifier.net, Rewritten)
    assert classifier.net.passes is not None
    return classifier.net.passes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let pieces have so many images."""

    def limit(count: int) -> None:
        monkeypatch.setattr(passes, "IMAGES", count)
        monkeypatch.setattr(passes, "together", lambda largest: count)

    return limit


@needs_compiler
@pytest.mark.parametrize("name", ["winograd", "fused"])
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("arch", ["wrn-10-1", "cifar-resnet-8"])
def test_pieces_give_what_the_whole_does(
    small: Callable[[int], None], arch: str, activation: str, name: str
) -> None:
    model, x = network(arch, activation=activation), images(7)
    expected = exact(model.net, x)
    small(2)
    twin = accelerate(model, None, Way(name))
    check(both(twin.net, x[:1]), exact(model.net, x[:1]), 1e-4)
    assert [len(piece) for piece in in_pieces(twin).pieces(x)] == [2, 2, 2, 1]
    check(both(twin.net, x), expected, 1e-4)
    with torch.no_grad():
        check((twin.net(x), x), (expected[0], x.double()), 1e-4)


@needs_compiler
def test_kernels_results_are_the_same_to_the_bit(small: Callable[[int], None]) -> None:
    model, x = network("cifar-resnet-8"), images(6)
    whole = both(accelerate(model, None, Way("winograd")), x)
    small(3)
    twin = accelerate(model, None, Way("winograd"))
    assert all(map(torch.equal, both(twin, x), whole))
    assert len(in_pieces(twin).pieces(x)) == 2


@needs_compiler
def test_no_pass_takes_more_than_a_piece(
    small: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    small(2)
    twin, x = accelerate(network("wrn-10-1"), None, Way("winograd")), images(5)
    twin(x[:2])
    sizes: list[int] = []
    for name in ("forward", "backward"):
        plain = getattr(Passes, name)

        def counted(self: Passes, *given: Any, plain: Any = plain) -> Any:
            sizes.append(len(given[0]))
            return plain(self, *given)

        monkeypatch.setattr(Passes, name, counted)
    with torch.no_grad():
        twin(x)
    assert sizes == [3, 2]
    both(twin, x)
    assert sizes == [3, 2] * 3  # forward, and backward


@needs_compiler
def test_one_graph_of_pieces_serves_many_sums(small: Callable[[int], None]) -> None:
    model, x = network("wrn-10-1"), images(5)
    small(2)
    twin, twice = accelerate(model, None, Way("winograd")), x.double().requires_grad_()
    out, sums = twin.net(x.requires_grad_()), copy.deepcopy(model.net).double()(twice)
    for k in (0, 3):
        (ours,) = torch.autograd.grad(out[:, k].sum(), x, retain_graph=True)
        (theirs,) = torch.autograd.grad(sums[:, k].sum(), twice, retain_graph=True)
        check((ours,), (theirs,), 1e-4)


@needs_compiler
def test_no_images_are_one_piece(small: Callable[[int], None]) -> None:
    small(1)
    twin = accelerate(network("wrn-10-1"), None, Way("winograd"))
    twin(images())
    assert twin(images(0)).shape == (0, 10)
    assert both(twin, images(0))[1].shape == (0, 3, 13, 15)


def beside_one_another(net: Wired, x: Tensor) -> Tensor:
    h = pre_activation(net, x)
    return h - h.mean(0, keepdim=True)


@needs_compiler
@pytest.mark.parametrize(("wire", "count"), [(pre_activation, 3), (beside_one_another, 1)])
def test_images_that_depend_on_one_another_stay_together(
    small: Callable[[int], None], wire: Callable[[Wired, Tensor], Tensor], count: int
) -> None:
    small(2)
    net = Wired(wire).eval().requires_grad_(False)
    ours = Rewritten(net, torch.float32)
    x = torch.rand(6, 16, 13, 15, generator=torch.Generator().manual_seed(0))
    assert ours.passes is not None
    check(both(ours, x), exact(net, x), 1e-4)
    assert len(ours.passes.pieces(x)) == count


@needs_compiler
def test_nobody_has_looked_at_those_of_a_network_of_its_own() -> None:
    net = Rewritten(Wired(pre_activation).eval().requires_grad_(False), torch.float32)
    assert net.passes is not None
    assert len(net.passes.pieces(torch.rand(1000, 16, 4, 4))) == 1


@needs_compiler
def test_the_largest_result_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(pieces, "CACHE", 4 * 16 * 13 * 15 * 80)  # 16 channels at full size
    twin = accelerate(classifier("cifar-resnet-8", "batch", (3, 13, 15)).eval(), None, Way("fused"))
    twin(images(4))
    sizes = [len(piece) for piece in in_pieces(twin).pieces(torch.rand(240, 3, 13, 15))]
    assert sizes == [80, 80, 80]


@pytest.mark.parametrize(
    ("threads", "largest", "count"),
    [
        (1, MEBI // 16, 96),  # what the cache holds
        (2, MEBI // 16, 192),
        (1, MEBI // 4, 64),  # 24 would be too few for the weights
        (8, MEBI // 4, 127),  # 128 would be a block that is not kept
        (1, 2 * MEBI, 15),
        (1, 64 * MEBI, 8),
    ],
)
def test_pieces_fit_caches_and_blocks_of_memory(
    monkeypatch: pytest.MonkeyPatch, threads: int, largest: int, count: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert together(largest) == count
