"""Operations between a convolution and its normalisation, or unused ones, change no number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.convolutions import both, fuses_in, needs_compiler
from helpers.wired import HALF, Wire, Wired, check, exact
from torch import Tensor, nn

from jeatcli.acceleration.folding import Rewritten

pytestmark = needs_compiler


def dead_activation(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    net.act(h)
    return h


def dead_convolution_of_an_activation(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    net.b(net.act(net.norm(h)))
    return h


def activated_after_another(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    gate = h.sigmoid()
    return net.b(net.act(h)) * gate


def normalised_after_another(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    gate = h.mean((2, 3), keepdim=True).sigmoid()
    return net.b(net.act(net.norm(h))) * gate


def used_after_another(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    gate = h.sigmoid()
    return net.act(net.norm(h)) * gate + h


def after_another_of_the_images(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    gate = x.sigmoid()
    return net.b(net.act(net.norm(net.b(net.act(h))))) * gate


GRAPHS = [
    dead_activation,
    dead_convolution_of_an_activation,
    activated_after_another,
    normalised_after_another,
    used_after_another,
    after_another_of_the_images,
]
KINDS: dict[str, tuple[float, dict[str, Any]]] = {
    "winograd": (1e-5, {"winograd": torch.float32}),
    "all": (1e-5, {"winograd": torch.float32, "fused": torch.float32}),
    "all in bf16": (0.1, {"winograd": HALF, "fused": HALF}),
}


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wire", GRAPHS)
def test_what_lies_between_changes_nothing(
    wire: Wire, kind: str, activation: type[nn.ReLU | nn.SiLU]
) -> None:
    most, ways = KINDS[kind]
    if HALF in ways.values() and not fuses_in(HALF):
        pytest.skip("needs a processor that computes in bfloat16")
    net, x = Wired(wire, activation=activation).eval(), torch.randn(3, 16, 7, 5)
    rewritten = Rewritten(net, **ways)
    for count in (3, 1, 2):
        found = both(rewritten, x[:count])
        check(found, exact(net, x[:count]), most)
        with torch.no_grad():
            torch.testing.assert_close(rewritten(x[:count]), found[0])
