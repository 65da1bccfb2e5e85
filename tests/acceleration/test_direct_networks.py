"""Networks whose convolutions of 1x1 and of the pixels are the kernel's, and their slices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.convolutions import both, conv, fuses_in, has_bf16_kernel, needs_compiler
from helpers.networks import classifier
from helpers.sliced import IN_PLACE, POINTS, SLICED, ends_are_computed, result_is_a_slice
from helpers.wired import Wire, Wired, check, exact, randomise
from torch import Tensor, nn

from jeatcli.acceleration import known
from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.fused import FusedConv
from jeatcli.acceleration.native import direct as direct_module
from jeatcli.acceleration.native.direct import PointConv, StemConv, direct
from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import Network, PixelConv

pytestmark = pytest.mark.usefixtures("tiles")
HALF = torch.bfloat16
ROUNDING = {torch.float32: 1e-5, HALF: 2**-8}


@needs_compiler
def test_what_they_stand_for() -> None:
    points = [
        nn.Conv2d(16, 32, 1),
        nn.Conv2d(48, 16, 1, 2, bias=False),
    ]
    stems = [conv(3, 16), conv(1, 48, bias=False), PixelConv(3, 16, 3, 1, 1)]
    assert [direct(each, torch.float32) for each in points] == [PointConv] * 2
    assert [direct(each, torch.float32) for each in stems] == [StemConv] * 3
    assert has_bf16_kernel() == all(direct(each, HALF) is not None for each in (*points, *stems))
    others = [
        nn.Conv2d(16, 32, 1, 3),
        nn.Conv2d(16, 32, 1, (2, 1)),
        nn.Conv2d(16, 32, 1, padding=1),
        nn.Conv2d(16, 32, 1, padding=1, padding_mode="circular"),
        nn.Conv2d(16, 32, 1, padding_mode="reflect"),
        nn.Conv2d(16, 32, 1, dilation=2),
        nn.Conv2d(16, 32, 1, groups=2),
        nn.Conv2d(16, 32, (1, 3)),
        nn.Conv2d(20, 32, 1),
        nn.Conv2d(32, 20, 1),
        nn.Conv2d(16, 32, 1).double(),
        nn.Conv2d(16, 32, 1).to(HALF),
        nn.Conv2d(16, 32, 1).to("meta"),
        PixelConv(16, 32, 1),
        conv(2, 16),
        conv(4, 16),
        conv(16, 16),
        conv(3, 20),
        conv(3, 16, stride=2),
        conv(3, 16).double(),
        conv(3, 16).to("meta"),
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(3, 16, 3, padding="same"),
        nn.Conv2d(3, 16, 3, padding=1, padding_mode="replicate"),
        nn.Conv2d(3, 16, 3, padding=1, dilation=2),
        nn.Conv2d(3, 48, 3, padding=1, groups=3),
        nn.Conv2d(3, 16, 5, padding=1),
        nn.Linear(16, 16),
        nn.ConvTranspose2d(16, 16, 1),
    ]
    assert [direct(each, torch.float32) for each in others] == [None] * len(others)
    assert direct(points[0], torch.float16) is None
    assert direct(points[0], torch.float64) is None


@needs_compiler
def test_a_kernel_is_not_built_for_what_it_cannot_replace(monkeypatch) -> None:
    def build() -> None:
        raise AssertionError("built")

    monkeypatch.setattr(direct_module, "kernel", build)
    assert direct(nn.Conv2d(16, 16, 1, groups=2), torch.float32) is None
    assert direct(conv(16, 16), torch.float32) is None


# Architecture, channels of an image, and how many convolutions are of 1x1 and of the pixels.
NETWORKS = [
    ("wrn-10-1", 3, 2, 1),
    ("wrn-10-2", 1, 3, 1),
    ("cifar-resnet-8", 3, 0, 1),
    ("cifar-resnet-8", 1, 0, 1),
    ("cifar-resnet-b-8", 3, 2, 1),
    ("resnet-18", 3, 3, 1),
    ("small", 1, 0, 1),
    ("jem-wrn-10-1", 3, 2, 1),
]


@needs_compiler
@pytest.mark.parametrize("dtype", [None, HALF])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("arch", "channels", "points", "stems"), NETWORKS)
def test_a_network_of_them_has_the_same_gradients(
    arch: str, channels: int, points: int, stems: int, norm: str, dtype: torch.dtype | None
) -> None:
    if dtype is HALF and not has_bf16_kernel():
        pytest.skip("needs AVX512-BF16")
    model = classifier(arch, norm, (channels, 13, 15), "relu")
    randomise(model)
    model = model.eval().requires_grad_(False)
    x = torch.rand(2, channels, 13, 15)
    twin = accelerate(model, dtype, Way("winograd"))
    kinds = [type(swap) for swap in twin.net.swaps]
    assert (kinds.count(PointConv), kinds.count(StemConv)) == (points, stems)
    assert FusedConv not in kinds
    for _ in range(2):  # then suited
        found = both(twin, x)
        assert twin.net.passes is not None
        if dtype is None:
            check(both(twin.net, x), exact(model.net, x), 1e-4)
    library = both(accelerate(model, dtype), x)
    for ours, theirs, best in zip(found, library, both(model, x), strict=True):
        # Where a shortcut has no weights, torch's autocast keeps its way in float32; we round it.
        assert (ours - best).norm() < 3 * (theirs - best).norm() + 0.05 * best.norm()


TYPES: dict[str, dict[str, Any]] = {
    "float32": {"winograd": torch.float32, "fused": torch.float32},
    "fused": {"fused": torch.float32},
    "bfloat16": {"winograd": HALF, "fused": HALF},
    "winograd in bf16": {"winograd": HALF, "fused": torch.float32},
    "direct in bf16": {"winograd": torch.float32, "fused": HALF},
    "tiles": {"fused": HALF, "amx": True},
}
ACTIVATED = [
    *((each, nn.ReLU) for each in TYPES),
    *((each, nn.SiLU) for each in ("float32", "bfloat16", "tiles")),
]


@needs_compiler
@pytest.mark.parametrize(("types", "activation"), ACTIVATED)
@pytest.mark.parametrize("wire", [*SLICED, *POINTS, *IN_PLACE])
def test_any_graph_has_the_same_gradients(
    wire: Wire, types: str, activation: type[nn.ReLU | nn.SiLU]
) -> None:
    given = TYPES[types]
    if not fuses_in(given.get("fused")):
        pytest.skip("needs a processor that computes in bfloat16")
    net = Wired(wire, activation=activation).eval().requires_grad_(False)
    x = torch.randn(2, 16, 7, 5)
    most = 0.2 if HALF in given.values() else 1e-5
    expected = exact(net, x)
    rewritten = Rewritten(net, **given)
    for _ in range(2):
        check(both(rewritten, x), expected, most)
        assert (rewritten.passes is None) == (wire in IN_PLACE)
    for again in (rewritten, Rewritten(net, **given)):
        with torch.no_grad():
            check((again(x),), (expected[0],), most)


@needs_compiler
@pytest.mark.parametrize("wire", SLICED)
def test_slices_are_taken_without_autograd(monkeypatch, wire: Wire) -> None:
    taken = []
    take = known.Known.forward
    monkeypatch.setattr(
        known.Known, "forward", lambda step, record: taken.append(step) or take(step, record)
    )
    Rewritten(Wired(wire).eval(), torch.float32)(torch.randn(2, 16, 7, 5))
    assert bool(taken) == (wire is not ends_are_computed)


@needs_compiler
def test_a_result_that_is_a_slice_may_be_changed_in_place() -> None:
    net, x = Wired(result_is_a_slice).eval(), torch.randn(2, 16, 7, 5).requires_grad_()
    found, expected = (
        torch.autograd.grad(each(x).mul_(2).sum(), x)[0]
        for each in (Rewritten(net, torch.float32), net)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


class Prepared(Network):
    """Pixels that are normalised and cut off before their convolution."""

    foldable = True

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(3), nn.ReLU()
        self.stem, self.one = PixelConv(3, 16, 3, 1, 1), nn.Conv2d(16, 16, 1)

    def features(self, x: Tensor) -> Tensor:
        return self.one(self.act(self.stem(self.act(self.norm(x)))))

    def head(self, features: Tensor) -> Tensor:
        return features


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_pixels_stay_in_float32_after_a_normalisation(dtype: torch.dtype) -> None:
    if dtype is HALF and not has_bf16_kernel():
        pytest.skip("needs AVX512-BF16")
    randomise(net := Prepared())
    net = net.eval().requires_grad_(False)
    rewritten = Rewritten(net, dtype, 0, dtype)
    stem, one = rewritten.swaps
    x = torch.randn(2, 3, 7, 9)
    check(both(rewritten, x), exact(net, x), 1e-5 if dtype is torch.float32 else 0.1)
    expected = one(stem(net.act(net.norm(x))))
    near = torch.isclose(rewritten(x), expected, rtol=2 * ROUNDING[dtype], atol=1e-5)
    assert near.float().mean() > 0.99  # a few values may lie between two of bfloat16
