"""Files with the names of public networks compute what the public classes compute."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.public_networks import PUBLIC, Weights, deepmind_preact_resnet, deepmind_wide_resnet

from jeatcli.checkpoints import checkpoint
from jeatcli.checkpoints.settings import Foreign
from jeatcli.errors import UsageProblem

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


@pytest.mark.parametrize("source", PUBLIC)
def test_the_logits_are_those_of_the_public_class(source: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    words, network = PUBLIC[source]
    arch, _, norm_layer = words.partition(" ")
    weights = Weights()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    logits = network(weights, (X - mean) / std)
    assert logits.std() > 0.05
    path = tmp_path / "theirs.pt"
    torch.save({"net": {f"module.{k}": v for k, v in weights.items()}, "acc": 90.0}, path)
    foreign = Foreign(arch, "cifar10", MEAN, STD, norm_layer=norm_layer or "batch")
    model = checkpoint.load(path, device="cpu", foreign=foreign)
    torch.testing.assert_close(model.classifier(X), logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageProblem) as caught:
        checkpoint.load(path, device="cpu")
    hinted = arch.removeprefix("mma-")  # its names are those of every wide network
    assert f"--arch {hinted}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("arch", "network"),
    [
        ("dm-wrn-10-1", partial(deepmind_wide_resnet, depth=10, width=1, act=F.silu)),
        ("dm-resnet-18", partial(deepmind_preact_resnet, act=F.silu)),
    ],
)
def test_silu(arch: str, network: object, tmp_path: Path) -> None:
    torch.manual_seed(4)
    weights = Weights()
    assert callable(network)
    logits = network(weights, X)
    torch.save(dict(weights), tmp_path / "theirs.pt")
    foreign = Foreign(arch, "cifar10", (0.0,), (1.0,), activation="silu")
    model = checkpoint.load(tmp_path / "theirs.pt", device="cpu", foreign=foreign)
    torch.testing.assert_close(model.classifier(X), logits, rtol=1e-4, atol=1e-4)


def test_the_four_pre_activation_networks_differ(tmp_path: Path) -> None:
    """Two pairs of them have the same names; each load says so."""
    outputs = []
    for source in list(PUBLIC)[:4]:
        torch.manual_seed(3)
        weights = Weights()
        outputs.append(PUBLIC[source][1](weights, X))
    for k, one in enumerate(outputs):
        assert all((one - other).abs().max() > 0.05 for other in outputs[:k])
