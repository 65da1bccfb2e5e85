"""A wrong description of third-party weights is warned of, and a right one is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import own_network
from helpers.checkpoints import written
from helpers.cli import done

from jeatcli import attack, load, wrap
from jeatcli.checkpoints.settings import Foreign
from jeatcli.core.models import ACTIVATIONS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAME = "another-function-is-likelier"


def flags(model: Any, **settings: Any) -> dict[str, str]:
    found = attack(model, attacks=("fgsm",), num=300, device="cpu", **settings)
    return {flag["name"]: flag["text"] for flag in found.warnings}


@pytest.fixture(scope="module")
def path(shared: Path) -> Path:
    return shared / "models" / "resnet20-12fca82f.th"


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (Foreign("cifar-resnet-20", "cifar10", (0.0,), (1.0,)), "--mean 0.4"),
        (Foreign("cifar-resnet-20", "cifar10", (0.5,), (0.5,)), "--mean 0.4"),
        (Foreign("cifar-resnet-20", "cifar10", MEAN, STD, activation="silu"), "--activation relu"),
        (
            Foreign("cifar-resnet-20", "cifar10", (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.262)),
            None,
        ),
    ],
    ids=["pixels", "range", "activation", "nearly right"],
)
def test_the_public_network_described_wrongly(
    path: Path, cifar10_root: Path, described: Foreign, words: str | None
) -> None:
    found = flags(load(path, device="cpu", foreign=described), data_dir=cifar10_root)
    assert (NAME in found) == (words is not None)
    assert words is None or words in found[NAME]


def test_the_public_network_with_exchanged_classes(
    path: Path, cifar10_root: Path, tmp_path: Path
) -> None:
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    for key in ("module.linear.weight", "module.linear.bias"):
        content[key] = content[key][[0, 1, 2, 5, 4, 3, 6, 7, 8, 9]]
    right = Foreign("cifar-resnet-20", "cifar10", MEAN, STD)
    swapped = written(tmp_path, {"state_dict": content})
    found = flags(load(swapped, device="cpu", foreign=right), data_dir=cifar10_root)
    assert "cat is dog, dog is cat" in found[NAME]


@pytest.mark.slow
def test_a_network_trained_here_described_as_another_of_the_same_names(home: Path) -> None:
    options = ("--dataset", "digits", "--method", "standard", "--arch", "resnet-18-raw")
    done("train", *options, "--epochs", "2", "--lr", "0.003", "-o", "theirs")
    trained = load("theirs", device="cpu")
    file = written(home, trained.classifier.net.state_dict())
    described = Foreign("resnet-18-raw", "digits", trained.meta.mean, trained.meta.std)
    activation = trained.meta.activation
    right = replace(described, activation=activation)
    other = next(each for each in ACTIVATIONS if each != activation)
    for foreign, words in (
        (right, None),
        (replace(right, arch="resnet-18"), "--arch resnet-18-raw"),
        (replace(right, activation=other), f"--activation {activation}"),
    ):
        found = flags(load(file, device="cpu", foreign=foreign))
        assert words in found[NAME] if words else NAME not in found


def test_a_wrapped_network_with_another_range(path: Path, cifar10_root: Path) -> None:
    net = own_network.resnet20()
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("module."): value for key, value in content.items()})
    wrong = wrap(net, mean=(0.0,), std=(1.0,), dataset="cifar10")
    assert "--mean 0.4" in flags(wrong, data_dir=cifar10_root)[NAME]
