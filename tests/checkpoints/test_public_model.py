"""A public ResNet-20 of CIFAR-10 (Idelbayev), which nobody here trained, under every verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.cli import done
from PIL import Image

from jeatcli import attack
from jeatcli.checkpoints import checkpoint
from jeatcli.checkpoints.model import Model
from jeatcli.checkpoints.settings import Foreign
from jeatcli.data.images import load_images
from jeatcli.scoring import features, fidelity

DESCRIBED = (
    *("--arch", "cifar-resnet-20", "--dataset", "cifar10"),
    *("--mean", ".485,.456,.406", "--std", ".229,.224,.225"),
)


@pytest.fixture(scope="module")
def path(shared: Path) -> Path:
    return shared / "models" / "resnet20-12fca82f.th"


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    theirs = Foreign("cifar-resnet-20", "cifar10", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return checkpoint.load(path, device="cpu", foreign=theirs)


def test_one_command_attacks_it(path: Path, cifar10_root: Path) -> None:
    options = ("-n", "100", "--eps", "2/255", "--steps", "20", "--device", "cpu", "--json")
    found = json.loads(done("attack", path, *DESCRIBED, *options, "--data-dir", cifar10_root))
    # 91.73 % and about 1 % of all 10,000 test images.
    assert 0.86 <= found["clean"] <= 0.97
    assert found["robust"] <= 0.05
    assert (found["run"], found["method"]) == ("resnet20-12fca82f", "foreign")
    assert (found["norm"], found["eps"]) == ("linf", pytest.approx(2 / 255))


def test_another_normalisation_is_worse(model: Model, cifar10_root: Path, path: Path) -> None:
    images = load_images("cifar10", "test", data_dir=cifar10_root).first(500)
    plain = Foreign("cifar-resnet-20", "cifar10", (0.0,), (1.0,))
    wrong = checkpoint.load(path, device="cpu", foreign=plain)
    right, other = (
        (each.classifier(images.x / 255).argmax(1) == images.y).float().mean()
        for each in (model, wrong)
    )
    assert right > other + 0.05


def test_its_features_and_softmax_judge_images(model: Model, cifar10_root: Path) -> None:
    assert model.classifier.features(torch.rand(2, 3, 32, 32)).shape == (2, 64)
    real = load_images("cifar10", "train", data_dir=cifar10_root).x[:200]
    reference = load_images("cifar10", "test", data_dir=cifar10_root).x[:200]
    noise = torch.randint(256, real.shape, generator=torch.Generator().manual_seed(0))
    seen, truth, static = (
        features.extract(x, model, 100) for x in (real, reference, noise.to(torch.uint8))
    )
    numbers = fidelity.Numbers.of(seen, truth, 1, 2, 100)
    photographs, nothing = (fidelity.compute(x, truth, numbers) for x in (seen, static))
    assert photographs["fid"] < 0.2 * nothing["fid"]
    assert photographs["inception_score"] > 3 * nothing["inception_score"]
    assert photographs["precision"] > 0.5 > nothing["precision"]


def test_the_command_line_takes_it_as_a_judge_of_a_folder(
    path: Path, cifar10_root: Path, tmp_path: Path
) -> None:
    images = load_images("cifar10", "test", data_dir=cifar10_root).first(60)
    for place, (pixels, label) in enumerate(zip(images.x, images.y, strict=True)):
        split = "test" if 1 <= int((images.y[:place] == label).sum()) < 3 else "train"
        folder = tmp_path / split / images.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{place:03}.png")
    described = [f"folder:{tmp_path}" if word == "cifar10" else word for word in DESCRIBED]
    options = ("--kid-subsets", "2", "--device", "cpu", "--json")
    found = json.loads(
        done("score", tmp_path / "test" / "dog", "--features", path, *described, *options)
    )
    assert found["protocol"]["features"]["run"] == "resnet20-12fca82f"
    assert found["protocol"]["reference"]["n"] == len([*tmp_path.glob("train/*/*.png")])


def test_an_unaltered_attack_from_python(model: Model, cifar10_root: Path) -> None:
    result = attack(model, attacks=("fgsm",), eps=2 / 255, num=100, data_dir=cifar10_root)
    assert result.robust < result.clean
