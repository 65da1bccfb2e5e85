"""Operations whose gradients are known need no graph of autograd's, and give what it gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.convolutions import both, needs_compiler
from helpers.wired import Wire, Wired, check, exact, network
from torch import Tensor, nn

from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.known import Known
from jeatcli.acceleration.steps import Other
from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import Way

pytestmark = needs_compiler


class Layers(Wired):
    """With layers of the same names as torch's functions."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self.mean, self.means = nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((2, 1))
        self.flat, self.flat_all = nn.Flatten(), nn.Flatten(2)


def start(net: Any, x: Tensor) -> Tensor:
    return net.act(net.a(x))


KNOWN = {
    "flatten": lambda net, x: torch.flatten(start(net, x), 1),
    "flatten by name": lambda net, x: start(net, x).flatten(start_dim=1),
    "flattened": lambda net, x: start(net, x).flatten(1),
    "a layer that flattens": lambda net, x: net.flat(start(net, x)),
    "mean": lambda net, x: F.adaptive_avg_pool2d(start(net, x), 1),
    "mean of both": lambda net, x: F.adaptive_avg_pool2d(start(net, x), (1, 1)),
    "a layer that has means": lambda net, x: net.mean(start(net, x)),
    "zeros": lambda net, x: net.b(F.pad(start(net, x), (1, 2, 0, 3))),
    "cut off": lambda net, x: net.b(F.pad(start(net, x), (-1, 2, 1, -2))),
    "ones": lambda net, x: net.b(F.pad(start(net, x), (1, 1), "constant", 1.0)),
    "twos by name": lambda net, x: net.b(F.pad(start(net, x), (1, 1), value=2.0)),
    "part": lambda net, x: net.b(start(net, x)[:, :, ::2, 1:]),
}
UNKNOWN = {
    "flatten more": lambda net, x: torch.flatten(start(net, x), 2),
    "flatten to": lambda net, x: start(net, x).flatten(1, 2),
    "a layer that flattens more": lambda net, x: net.flat_all(start(net, x)),
    "means": lambda net, x: F.adaptive_avg_pool2d(start(net, x), (2, 1)),
    "a layer that has more means": lambda net, x: net.means(start(net, x)),
    "reflection": lambda net, x: net.b(F.pad(start(net, x), (1, 2, 0, 3), "reflect")),
    "circle": lambda net, x: net.b(F.pad(start(net, x), (1, 2, 0, 1), mode="circular")),
    "size": lambda net, x: net.b(F.pad(start(net, x), (x.shape[2] % 2, 1))),
    "index": lambda net, x: start(net, x)[:, 0],
}


@pytest.mark.parametrize("name", [*KNOWN, *UNKNOWN])
def test_they_have_the_same_gradients(name: str) -> None:
    wire = (KNOWN | UNKNOWN)[name]
    net, x = Layers(wire).eval(), torch.randn(3, 16, 7, 5)
    rewritten = Rewritten(net, torch.float32)
    assert rewritten.passes is not None
    found = [step for step in rewritten.passes.steps if isinstance(step, Known)]
    assert len(found) == (name in KNOWN)
    for _ in range(2):
        check(both(rewritten, x), exact(net, x), 1e-5)


def test_several_sums_may_be_asked_for() -> None:
    wire = KNOWN["mean"]
    net, x = Layers(wire).eval(), torch.randn(3, 16, 7, 5).requires_grad_()
    ours, theirs = Rewritten(net, torch.float32)(x), net(x)
    for k in (0, 7):
        sums = (ours[:, k].sum(), theirs[:, k].sum())
        one, other = (torch.autograd.grad(each, x, retain_graph=True)[0] for each in sums)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["cifar-resnet-8", "cifar-resnet-b-8", "wrn-10-1", "resnet-18"])
def test_whole_networks_need_no_graph(arch: str) -> None:
    net = accelerate(network(arch, side=32), None, Way("winograd")).net
    assert isinstance(net, Rewritten)
    assert net.passes is not None
    assert not any(isinstance(step, Other) for step in net.passes.steps)


def test_a_layer_with_hooks_is_called() -> None:
    net, called = Layers(KNOWN["a layer that has means"]).eval(), []
    net.mean.register_forward_hook(lambda *_: called.append(1))
    rewritten = Rewritten(net, torch.float32)
    assert rewritten.passes is not None
    assert not any(isinstance(step, Known) for step in rewritten.passes.steps)
    called.clear()
    both(rewritten, torch.randn(2, 16, 7, 5))
    assert called
