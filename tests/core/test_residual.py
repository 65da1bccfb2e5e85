"""The residual networks against their papers' formulas, written out on the state dicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jeatcli.core.models import build
from jeatcli.core.models.layers import Shape
from jeatcli.errors import UsageProblem

Weights = Mapping[str, Tensor]
Block = Callable[[Weights, str, Tensor, int], Tensor]


def conv(weights: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = weights[f"{name}.weight"]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    parts = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(weights[f"{name}.{part}"] for part in parts))


def basic(aside: Block) -> Block:
    """y = relu(B(C(relu(B(C(x))))) + aside(x)) (He et al. 2016a, Figure 2)."""

    def block(weights: Weights, at: str, x: Tensor, stride: int) -> Tensor:
        inside = F.relu(norm(weights, f"{at}.bn1", conv(weights, f"{at}.conv1", x, stride)))
        residual = norm(weights, f"{at}.bn2", conv(weights, f"{at}.conv2", inside))
        return F.relu(residual + aside(weights, at, x, stride))

    return block


def option_a(weights: Weights, at: str, x: Tensor, stride: int) -> Tensor:
    """Every second pixel; half of the new channels, all zeros, before the old ones."""
    if stride == 1:
        return x
    zeros = torch.zeros(len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3] // 2)
    return torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)


def option_b(weights: Weights, at: str, x: Tensor, stride: int) -> Tensor:
    if f"{at}.shortcut.0.weight" not in weights:
        return x
    return norm(weights, f"{at}.shortcut.1", conv(weights, f"{at}.shortcut.0", x, stride))


def preactivation(raw: bool) -> Block:
    """y = C(relu(B(C(relu(B(x)))))) + aside (He et al. 2016b, Figure 4e)."""

    def block(weights: Weights, at: str, x: Tensor, stride: int) -> Tensor:
        ahead = F.relu(norm(weights, f"{at}.bn1", x))
        inside = conv(weights, f"{at}.conv1", ahead, stride)
        residual = conv(weights, f"{at}.conv2", F.relu(norm(weights, f"{at}.bn2", inside)))
        if f"{at}.shortcut.0.weight" in weights:
            x = conv(weights, f"{at}.shortcut.0", x if raw else ahead, stride)
        return residual + x

    return block


def logits(weights: Weights, x: Tensor, block: Block, stages: int, count: int) -> Tensor:
    x = conv(weights, "conv1", x)
    if "bn1.weight" in weights:
        x = F.relu(norm(weights, "bn1", x))
    for stage in range(stages):
        for place in range(count):
            stride = 2 if stage and not place else 1
            x = block(weights, f"layer{stage + 1}.{place}", x, stride)
    if "bn.weight" in weights:
        x = F.relu(norm(weights, "bn", x))
    return F.linear(x.mean((2, 3)), weights["linear.weight"], weights["linear.bias"])


def random_net(arch: str) -> nn.Module:
    """Build a network whose normalisations are none of them the identity."""
    torch.manual_seed(0)
    net = build(arch, Shape((3, 16, 16), 10)).eval()
    for key, value in net.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5) if "bias" not in key else value.normal_()
    return net


@pytest.mark.parametrize(
    ("arch", "block", "stages", "count"),
    [
        ("cifar-resnet-20", basic(option_a), 3, 3),
        ("cifar-resnet-8", basic(option_a), 3, 1),
        ("resnet-18-v1", basic(option_b), 4, 2),
        ("resnet-18", preactivation(raw=False), 4, 2),
        ("resnet-18-raw", preactivation(raw=True), 4, 2),
        ("resnet-18-wong", preactivation(raw=True), 4, 2),
    ],
)
def test_forward_is_the_formula(arch: str, block: Block, stages: int, count: int) -> None:
    net, x = random_net(arch), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = logits(net.state_dict(), x, block, stages, count)
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-3)
    assert net.features(x).shape == (2, 64 if stages == 3 else 512)


def test_two_networks_of_the_same_names_differ() -> None:
    one, other, x = random_net("resnet-18"), random_net("resnet-18-raw"), torch.rand(2, 3, 16, 16)
    other.load_state_dict(one.state_dict())
    assert not torch.allclose(one(x), other(x), rtol=0.01)


@pytest.mark.parametrize(
    ("arch", "weights"),
    [
        ("cifar-resnet-20", 269_722),
        ("cifar-resnet-32", 464_154),
        ("cifar-resnet-44", 658_586),
        ("cifar-resnet-56", 853_018),
        ("cifar-resnet-110", 1_727_962),
        ("resnet-18-v1", 11_173_962),
        ("resnet-18", 11_172_170),
        ("resnet-18-raw", 11_172_170),
        ("resnet-18-wong", 11_171_146),
    ],
)
def test_published_number_of_weights(arch: str, weights: int) -> None:
    with torch.device("meta"):
        net = build(arch, Shape((3, 32, 32), 10))
    assert sum(weight.numel() for weight in net.parameters()) == weights


@pytest.mark.parametrize(("depth", "nearest"), [(21, 20), (110 + 1, 110), (24, 26)])
def test_a_depth_that_is_none(depth: int, nearest: int) -> None:
    with pytest.raises(UsageProblem, match="not 6n \\+ 2") as caught:
        build(f"cifar-resnet-{depth}", Shape((3, 32, 32), 10))
    assert f"cifar-resnet-{nearest}" in (caught.value.hint or "")


def test_without_normalisation_every_branch_starts_at_zero() -> None:
    for arch in ("cifar-resnet-20", "resnet-18-v1", "resnet-18-wong"):
        net = build(arch, Shape((3, 8, 8), 10, "none"))
        blocks = [module for module in net.modules() if hasattr(module, "conv2")]
        assert blocks
        assert not any(block.conv2.weight.any() for block in blocks)
