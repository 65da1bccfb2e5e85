"""A wrong description of third-party weights is warned of, and a right one is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import own_network
from helpers.checkpoints import written
from torch import Tensor, nn
from torch.nn import functional as F

from jeatcli import attack, load, wrap
from jeatcli.checkpoints.model import Model
from jeatcli.checkpoints.settings import Foreign
from jeatcli.core.models import build
from jeatcli.core.models.layers import Shape
from jeatcli.data.images import Images, load_images, to_unit_range
from jeatcli.robustness import plausibility
from jeatcli.robustness.plausibility import likelier, low_accuracy

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PUBLIC = Foreign("cifar-resnet-20", "cifar10", MEAN, STD)
NAME = "another-function-is-likelier"


def said(model: Model, images: Images) -> str:
    """Return what is said of a model on images."""
    x, y = to_unit_range(images.x), images.y
    with torch.no_grad():
        predicted = torch.cat([model.classifier(part).argmax(1) for part in x.split(100)])
    return likelier(model, predicted, x, y, 100) or ""


@pytest.fixture(scope="module")
def path(shared: Path) -> Path:
    return shared / "models" / "resnet20-12fca82f.th"


@pytest.fixture(scope="module")
def cifar10(cifar10_root: Path) -> Images:
    return load_images("cifar10", "test", data_dir=cifar10_root).first(300)


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (replace(PUBLIC, mean=(0.0,), std=(1.0,)), "--mean 0.4"),
        (replace(PUBLIC, mean=(0.5,), std=(0.5,)), "--mean 0.4"),
        (replace(PUBLIC, mean=(0.0,), std=(1 / 255,)), "--mean 0.4"),
        (replace(PUBLIC, activation="silu"), "--activation relu"),
        (replace(PUBLIC, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.262)), None),
        (PUBLIC, None),
    ],
    ids=["pixels", "range", "0..255", "activation", "nearly right", "right"],
)
def test_the_public_network_described_wrongly(
    path: Path, cifar10: Images, described: Foreign, words: str | None
) -> None:
    found = said(load(path, device="cpu", foreign=described), cifar10)
    assert words in found if words else not found


def test_an_attack_says_so(path: Path, cifar10: Images, tmp_path: Path) -> None:
    """Its classes are exchanged, and those of two names in the file."""
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    for key in ("module.linear.weight", "module.linear.bias"):
        content[key] = content[key][[0, 1, 2, 5, 4, 3, 6, 7, 8, 9]]
    model = load(written(tmp_path, {"state_dict": content}), device="cpu", foreign=PUBLIC)
    settings: dict[str, Any] = {"attacks": ("fgsm",), "device": "cpu"}
    found = attack(model, images=cifar10.x[:100], labels=cifar10.y[:100], **settings)
    flags = {flag["name"]: flag["text"] for flag in found.warnings}
    assert "cat is dog, dog is cat" in flags[NAME]


def wrapped(path: Path, **more: Any) -> Model:
    """Return the public network as a module."""
    net = own_network.resnet20()
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("module."): value for key, value in content.items()})
    return wrap(net, dataset="cifar10", **{"mean": MEAN, "std": STD} | more)


def test_of_few_images_that_are_all_right_nothing_is_doubted() -> None:
    """So few could be right by chance, but nothing says that they are."""
    y = torch.tensor([0, 0, 1, 0])
    assert low_accuracy(y, y, 3, None) is None
    assert "75 % on 4 images (chance: 75 %)" in str(low_accuracy(y * 0, y, 3, None))
    assert "0 % on 1 image (chance: 33 %)" in str(low_accuracy(y[:1] + 1, y[:1], 3, None))


def test_a_wrapped_network_with_another_range(path: Path, cifar10: Images) -> None:
    assert "--mean 0.4" in said(wrapped(path, mean=(0.0,), std=(1.0,)), cifar10)
    assert not said(wrapped(path), cifar10)


@dataclass
class Trained:
    """A network of the digits, trained by the code of nobody here, as a file."""

    file: Path
    described: Foreign
    images: Images


def standardised(x: Tensor) -> Tensor:
    return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)


def trained(
    folder: Path,
    arch: str,
    change: Callable[[nn.Module], None] = lambda net: None,
    before: Callable[[Tensor], Tensor] = lambda x: (x - 0.3) / 0.37,
    norm_layer: str = "batch",
) -> Trained:
    torch.manual_seed(0)
    images = load_images("digits", "train")
    x, y = before(to_unit_range(images.x)), images.y
    net = build(arch, Shape((1, 8, 8), 10, norm_layer))
    change(net)
    steps, size = (60, 32) if arch.startswith("resnet") else (150, 64)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps)
    for step in range(steps):
        part = torch.arange(size * step, size * step + size) % len(x)
        optimizer.zero_grad()
        F.cross_entropy(net(x[part]), y[part]).backward()
        optimizer.step()
        schedule.step()
    described = Foreign(arch, "digits", (0.3,), (0.37,), norm_layer=norm_layer)
    return Trained(
        written(folder, net.state_dict()), described, load_images("digits", "test").first(300)
    )


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("ours"), "resnet-18-raw")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, ""),
        ({"arch": "resnet-18"}, "--arch resnet-18-raw"),
        ({"activation": "silu"}, "--activation relu"),
        ({"mean": (0.0,), "std": (1 / 255,)}, "--mean 0.3"),
        ({"mean": (-1.0,), "std": (1.0,)}, "--mean 0.3"),
    ],
    ids=["right", "network", "activation", "0..255", "mean"],
)
def test_a_network_trained_here(ours: Trained, wrong: dict[str, Any], words: str) -> None:
    model = load(ours.file, device="cpu", foreign=replace(ours.described, **wrong))
    found = said(model, ours.images)
    assert words in found if words else not found


@pytest.mark.parametrize(("more", "words"), [(2, "with options"), (14, "with code")])
def test_a_rarer_function_must_be_clearly_better(
    path: Path, monkeypatch: pytest.MonkeyPatch, more: int, words: str
) -> None:
    """Two images of a hundred are chance: the user is not sent to write code for them."""
    y = torch.arange(100) % 10

    def right(count: int) -> Callable[[Tensor], Tensor]:
        classes = torch.where(torch.arange(100) < count, y, (y + 1) % 10)
        return lambda x: F.one_hot(classes[x[:, 0, 0, 0].long()], 10).float()

    for name, function in (("options", right(85)), ("code", right(85 + more))):
        candidates = [(name, function)]
        monkeypatch.setattr(plausibility, f"_by_{name}", lambda model, each=candidates: iter(each))
    x = torch.arange(100.0).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    model = load(path, device="cpu", foreign=PUBLIC)
    assert words in (likelier(model, torch.zeros_like(y), x, y, 100) or "")


@pytest.mark.parametrize(
    ("n", "gained", "lost", "better"),
    [
        # Three standard errors of the difference, sqrt(gained + lost).
        (100, 9, 0, False),
        (100, 10, 0, True),
        (100, 20, 4, True),
        (100, 20, 6, False),
        # And three of a hundred images.
        (1000, 30, 0, False),
        (1000, 31, 0, True),
    ],
)
def test_a_function_is_better_beyond_chance(n: int, gained: int, lost: int, better: bool) -> None:
    right, found = torch.zeros(2, n, dtype=torch.bool)
    found[:gained] = True
    right[gained : gained + lost] = True
    assert plausibility._better(found, right) is better


def test_a_network_trained_here_with_exchanged_classes(ours: Trained, tmp_path: Path) -> None:
    content = torch.load(ours.file, weights_only=True)
    for key in ("linear.weight", "linear.bias"):
        content[key] = content[key].roll(1, 0)
    model = load(written(tmp_path, content), device="cpu", foreign=ours.described)
    assert "in another order (0 is 9, 1 is 0, 2 is 1, 3 is 2, ...)" in said(model, ours.images)


def tanh(net: nn.Module) -> None:
    for parent in [*net.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Tanh())


def grouped(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"change": tanh},
            "Tanh in its layers (write that into your code: `--arch FILE.py:FUNCTION`)",
        ),
        ({"change": grouped, "norm_layer": "group"}, "GroupNorm(1) in its layers (write"),
        ({"before": standardised}, "`--arch mma-wrn-10-1`"),
    ],
    ids=["activation", "groups", "standardised"],
)
def test_functions_that_are_rare(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    theirs = trained(tmp_path, "wrn-10-1", **settings)
    plain = {"mean": (0.0,), "std": (1.0,)} if "before" in settings else {}
    described = replace(theirs.described, **plain)
    assert words in said(load(theirs.file, device="cpu", foreign=described), theirs.images)


class Bright(nn.Module):
    """Class 0 where the mean is above a half: of pixels out of range always."""

    def forward(self, x: Tensor) -> Tensor:
        away = x.mean((1, 2, 3)) - 0.5
        return torch.stack([away, 0 * away, -away, 0 * away - 1], 1)


def test_what_predicts_one_class_is_not_likelier_on_images_of_that_class() -> None:
    model = wrap(Bright(), classes=4, shape=(1, 8, 8), mean=0, std=1)
    x = torch.linspace(0.1, 0.9, 60).view(60, 1, 1, 1).expand(60, 1, 8, 8)
    found = attack(model, images=x, labels=[0] * 60, attacks=("fgsm",))
    assert found.clean == 0.5
    flags = [flag["name"] for flag in found.warnings]
    assert NAME not in flags
    assert "inputs-of-another-range" not in flags


def test_another_order_is_not_told_by_images_of_one_class() -> None:
    """All are right if each predicted class is that one; of two classes not all would be."""
    y = torch.zeros(60, dtype=torch.int64)
    said = low_accuracy(y + 1, y, 3, None)
    assert said is not None
    assert "the classes are in another order" in said
    assert "with the classes reordered" not in said
    y[:20] = 1
    assert "100 % are right with the classes reordered" in (low_accuracy(1 - y, y, 3, None) or "")
