"""Small networks of each kind beside formulas of their own; the numbers in their names."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from helpers import public_networks as public
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.core.models import ARCHITECTURES, build, deepmind, resnet
from jeatcli.core.models.classifier import Network
from jeatcli.core.models.layers import Shape, check_range
from jeatcli.core.models.preact_resnet import PreActBlock
from jeatcli.core.models.residual import ResidualNet
from jeatcli.errors import UsageProblem

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SHAPE = Shape((3, 8, 8), 10)
TEN_TWO: dict[str, int] = {"depth": 10, "width": 2}


def bottlenecks(pool: bool) -> Callable[[], Network]:
    return lambda: resnet.OriginalResNet(SHAPE, resnet.Bottleneck, (64, 128), (1, 2), pool)


NETWORKS: dict[str, tuple[Callable[[], Network], Callable[..., Tensor]]] = {
    "wrn": (lambda: build("wrn-10-2", SHAPE), partial(public.wide_resnet, **TEN_TWO)),
    "dm-wrn": (
        lambda: build("dm-wrn-10-2", SHAPE),
        partial(public.deepmind_wide_resnet, **TEN_TWO),
    ),
    "dm-resnet": (lambda: build("dm-resnet-18", SHAPE), public.deepmind_preact_resnet),
    "jem": (lambda: build("jem-wrn-10-2", SHAPE), partial(public.jem, **TEN_TWO, norm=True)),
    "jem without normalisation": (
        lambda: build("jem-wrn-10-2", Shape((3, 8, 8), 10, "none")),
        partial(public.jem, **TEN_TWO, norm=False),
    ),
    "basic blocks": (
        lambda: build("cifar-resnet-b-14", SHAPE),
        partial(public.resnet, counts=(2, 2, 2), widths=(16, 32, 64)),
    ),
    **{
        f"bottlenecks, pool {pool}": (
            bottlenecks(pool),
            partial(public.resnet, counts=(1, 2), widths=(16, 32), bottleneck=True, pool=pool),
        )
        for pool in (False, True)
    },
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_are_the_formula(kind: str) -> None:
    torch.manual_seed(0)
    make, formula = NETWORKS[kind]
    net, weights = make().eval(), public.Weights()
    expected = formula(weights, X)
    # JEM's classifier has heads that are not used here.
    net.load_state_dict(
        {k: v for k, v in weights.items() if "energy" not in k and "f.lin" not in k}
    )
    with torch.no_grad():
        logits = net(X)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net.head(net.features(X)), logits)
    assert expected.std() > 0.05
    assert net.foldable


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 8), (8, 7), (5, 9)])
def test_padding_is_tensorflows(size: tuple[int, int], stride: int) -> None:
    x = torch.rand(1, 1, *size)
    pads = []
    for length in size:
        total = max((math.ceil(length / stride) - 1) * stride + 3 - length, 0)
        pads.append((total // 2, total - total // 2))
    expected = nn.functional.pad(x, (*pads[1], *pads[0]))
    assert torch.equal(deepmind.pad_same(x, stride), expected)


NUMBERED = {
    "cifar-resnet-N": ("cifar-resnet-20", (20,)),
    "cifar-resnet-b-N": ("cifar-resnet-b-20", (20,)),
    "wrn-D-W": ("wrn-16-3", (16, 3)),
    "dm-wrn-D-W": ("dm-wrn-16-3", (16, 3)),
    "jem-wrn-D-W": ("jem-wrn-16-3", (16, 3)),
}


@pytest.mark.parametrize("row", NUMBERED)
def test_the_numbers_of_a_name_are_read_off_its_shapes(row: str) -> None:
    arch, numbers = NUMBERED[row]
    with torch.device("meta"):
        shapes = {key: tuple(each.shape) for key, each in build(arch, SHAPE).state_dict().items()}
        others = build("small", SHAPE).state_dict()
    assert ARCHITECTURES[row].numbers(shapes) == numbers
    assert (
        ARCHITECTURES[row].numbers({key: tuple(each.shape) for key, each in others.items()}) is None
    )
    if len(numbers) == 2:
        for other in ("wrn-D-W", "dm-wrn-D-W", "jem-wrn-D-W"):
            assert (ARCHITECTURES[other].numbers(shapes) is None) == (other != row)


@pytest.mark.parametrize("family", ["wrn", "dm-wrn", "jem-wrn"])
def test_depths_and_widths_that_are_none(family: str) -> None:
    for arch, message, hint in (
        ("17-2", "depth 17, which is not 6n + 4", f"the nearest is `{family}-16-2`"),
        ("4-2", "depth 4", "depth must be at least 10 and at most 2000"),
        ("2002-2", "depth 2002", "depth must be at least 10 and at most 2000"),
        ("10-0", "width 0", "width must be at least 1 and at most 256"),
        ("10-257", "width 257", "width must be at least 1 and at most 256"),
    ):
        with pytest.raises(UsageProblem) as caught, torch.device("meta"):
            build(f"{family}-{arch}", SHAPE)
        assert caught.value.message == f"`{family}-{arch}` has {message}"
        assert caught.value.hint == hint
    with torch.device("meta"):
        build(f"{family}-10-256", SHAPE)


@pytest.mark.parametrize("family", ["cifar-resnet", "cifar-resnet-b"])
def test_the_depth_of_a_small_network_is_6n_plus_2(family: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        build(f"{family}-21", SHAPE)
    assert caught.value.message == f"`{family}-21` has depth 21, which is not 6n + 2"
    assert caught.value.hint == f"the nearest is `{family}-20`"
    check_range("x", "depth", 3, 3, 3)


def test_groups_divide_the_channels() -> None:
    for channels, groups in ((16, 16), (48, 24), (64, 32), (7, 7), (33, 11)):
        norm = Shape((3, 8, 8), 10, "group").norm(channels)
        assert isinstance(norm, nn.GroupNorm)
        assert (norm.num_groups, norm.num_channels) == (groups, channels)


def test_what_is_wrong_with_a_shape_is_told() -> None:
    with pytest.raises(UsageProblem, match=r"^unknown norm layer `layer`") as caught:
        Shape((3, 8, 8), 10, "layer")
    assert caught.value.hint == "known: batch, group, none"
    with pytest.raises(UsageProblem, match=r"^unknown activation `gelu`") as caught:
        Shape((3, 8, 8), 10, activation="gelu")
    assert "relu" in (caught.value.hint or "")


def test_without_normalisation_branches_start_at_zero() -> None:
    torch.manual_seed(0)
    bare, known = Shape((3, 8, 8), 10, "none"), Shape((3, 8, 8), 10)
    for arch in ("wrn-10-1", "jem-wrn-10-1", "cifar-resnet-8"):
        for shape in (bare, known):
            blocks = [each for each in build(arch, shape).modules() if hasattr(each, "conv2")]
            assert len(blocks) == 3
            assert all(block.conv2.weight.any() == (shape is known) for block in blocks)
            assert all(block.conv1.weight.any() for block in blocks)


def test_small_keeps_the_scale_of_its_signal() -> None:
    """Weights of variance 2 / inputs, biases of 0 (He et al. 2015)."""
    torch.manual_seed(0)
    net = build("small", Shape((3, 32, 32), 10, "none"))
    layers = [each for each in (*net.convs, net.hidden) if hasattr(each, "weight")]
    assert len(layers) == 7
    for layer in layers:
        inputs = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.06)
        assert not layer.bias.any()
    assert net.linear.bias.any()


@pytest.mark.parametrize(
    ("image", "channels", "strides"),
    [
        ((3, 32, 32), [32, 64, 64, 128, 128, 128], [1, 2, 1, 2, 1, 2]),
        ((1, 17, 30), [32, 64, 64, 128, 128, 128], [1, 2, 1, 2, 1, 2]),
        ((1, 16, 12), [48, 96, 96, 192], [1, 2, 1, 2]),
        ((1, 8, 8), [48, 96], [1, 2]),
        ((1, 4, 4), [48], [1]),
    ],
)
def test_small_halves_the_resolution_down_to_4_pixels(
    image: tuple[int, int, int], channels: list[int], strides: list[int]
) -> None:
    net = build("small", Shape(image, 10))
    convolutions = [each for each in net.convs if isinstance(each, nn.Conv2d)]
    assert [each.out_channels for each in convolutions] == channels
    assert [each.stride for each in convolutions] == [(k, k) for k in strides]
    assert net(torch.rand(1, *image)).shape == (1, 10)
    assert net.hidden.out_features == 256


def test_networks_of_18_layers_are_those_blocks() -> None:
    """On the meta device: no weight is made."""
    with torch.device("meta"):
        for arch in ("resnet-18", "resnet-18-raw", "resnet-18-wong", "resnet-18-kuangliu"):
            net = build(arch, SHAPE)
            assert isinstance(net, ResidualNet)
            blocks = [each for each in net.modules() if isinstance(each, PreActBlock)]
            assert [each.raw for each in blocks] == [arch.endswith(("raw", "wong"))] * 8
            assert hasattr(net, "bn") == (arch in ("resnet-18", "resnet-18-raw"))
        for depth, counts in (("18", [2, 2, 2, 2]), ("34", [3, 4, 6, 3]), ("50", [3, 4, 6, 3])):
            for pool in ("", "-pool"):
                net = build(f"resnet-{depth}-v1{pool}", SHAPE)
                assert [len(net.get_submodule(f"layer{k}")) for k in (1, 2, 3, 4)] == counts
                assert isinstance(net.pool, nn.MaxPool2d) == (pool == "-pool")
                assert net.linear.in_features == (2048 if depth == "50" else 512)


def test_a_new_classifier_has_neither_another_type_nor_a_twin() -> None:
    model = classifier("small")
    assert (model.autocast, model.twin) == (None, None)
    shapes = {key: tuple(each.shape) for key, each in model.normalize.named_buffers()}
    assert shapes == {"mean": (1, 3, 1, 1), "std": (1, 3, 1, 1)}
    assert ARCHITECTURES["small"].numbers({}) == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None])
def test_the_body_has_the_precision_that_is_asked_for(dtype: torch.dtype | None) -> None:
    model = classifier("small", image=(1, 8, 8))
    model.autocast = dtype
    seen: list[torch.dtype] = []
    model.net.get_submodule("hidden").register_forward_hook(
        lambda module, given, found: seen.append(found.dtype)
    )
    assert model(torch.rand(2, 1, 8, 8)).dtype is torch.float32
    assert seen == [dtype or torch.float32]
