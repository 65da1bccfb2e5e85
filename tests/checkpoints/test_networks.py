"""Networks that are not ours: own modules, a library's, exported programs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import own_network
from helpers.cli import done
from helpers.runs import Listener
from helpers.strangers import RAW, Net, exported
from torch import nn

from jeatcli import Foreign, attack, image_scores, load, sample, wrap
from jeatcli.checkpoints.header import read_header
from jeatcli.checkpoints.model import Model
from jeatcli.data.images import Images, load_images
from jeatcli.robustness.result import Robustness

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


OWN = f"{own_network.__file__}:resnet20"


@pytest.fixture(scope="module")
def path(shared: Path) -> Path:
    return shared / "models" / "resnet20-12fca82f.th"


@pytest.fixture(scope="module")
def theirs(path: Path) -> nn.Module:
    net = own_network.resnet20()
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("module."): value for key, value in content.items()})
    return net.eval()


def as_file(path: Path, net: nn.Module, folder: Path) -> Model:
    return load(path, device="cpu", foreign=Foreign(OWN, "cifar10", MEAN, STD))


def as_module(path: Path, net: nn.Module, folder: Path) -> Model:
    named = "helpers.own_network:resnet20"
    return load(path, device="cpu", foreign=Foreign(named, "cifar10", MEAN, STD))


def as_wrapped(path: Path, net: nn.Module, folder: Path) -> Model:
    return wrap(net, mean=MEAN, std=STD, dataset="cifar10")


def as_program(path: Path, net: nn.Module, folder: Path) -> Model:
    file = exported(net, folder / "own.pt2")
    return load(file, device="cpu", foreign=Foreign(None, "cifar10", MEAN, STD))


def as_onnx(path: Path, net: nn.Module, folder: Path) -> Model:
    pytest.importorskip("onnx2torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n"}}
        torch.onnx.export(
            net,
            (torch.rand(2, 3, 32, 32),),
            folder / "own.onnx",
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
            opset_version=13,
        )
    return load(folder / "own.onnx", device="cpu", foreign=Foreign(None, "cifar10", MEAN, STD))


def verdicts(model: Model, images: Images) -> list[Robustness]:
    settings = {"eps": 1 / 255, "steps": 4, "exact": True, "device": "cpu"}
    own = {"images": images.x, "labels": images.y}
    return [attack(model, attacks=(name,), **own, **settings) for name in ("pgd", "apgd-ce")]


@pytest.fixture(scope="module")
def native(path: Path, cifar10_root: Path) -> tuple[Model, Images, list[Robustness]]:
    images = load_images("cifar10", "test", data_dir=cifar10_root).first(12)
    model = load(path, device="cpu", foreign=Foreign("cifar-resnet-20", "cifar10", MEAN, STD))
    return model, images, verdicts(model, images)


@pytest.mark.parametrize("way", [as_file, as_module, as_wrapped, as_program, as_onnx])
def test_the_public_network_has_the_same_verdicts_in_every_form(
    way: Callable[[Path, nn.Module, Path], Model],
    path: Path,
    theirs: nn.Module,
    native: tuple[Model, Images, list[Robustness]],
    tmp_path: Path,
) -> None:
    """`benchmarks/network_forms.py` does so on 500 images."""
    ours, images, expected = native
    other = way(path, theirs, tmp_path)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other.classifier(x), ours.classifier(x), atol=1e-4, rtol=1e-4)
    for one, own in zip(expected, verdicts(other, images), strict=True):
        assert one.samples == own.samples
        assert 0 < own.robust < own.clean


def test_features_are_what_the_last_linear_layer_takes(theirs: nn.Module, tmp_path: Path) -> None:
    model = wrap(theirs, mean=MEAN, std=STD, dataset="cifar10")
    x = torch.rand(2, 3, 32, 32)
    values, logits = model.classifier.penultimate(x)
    assert values.shape == (2, 64)
    torch.testing.assert_close(theirs.linear(values), logits)
    torch.testing.assert_close(logits, model.classifier(x))
    program = as_program(tmp_path, theirs, tmp_path)
    values, logits = program.classifier.penultimate(x)
    assert torch.equal(values, logits)


@pytest.mark.filterwarnings("ignore")
def test_a_network_of_torchvision_goes_through_all_verbs(home: Path) -> None:
    from PIL import Image

    pictures = home.parent / "pictures"
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("test", 3)):
        for label, value in (("dark", 40), ("light", 200)):
            folder = pictures / split / label
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = value + torch.randint(30, (32, 32, 3), generator=generator)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{k}.png")
    arch = "torchvision:shufflenet_v2_x0_5"
    options = ("--dataset", f"folder:{pictures}", "--arch", arch, "--method", "standard")
    done("train", *options, "--epochs", "1", "-b", "6", "-o", "theirs", "--device", "cpu")
    assert read_header(home / "theirs" / "model.safetensors")["arch"] == arch
    done("attack", "theirs", "-n", "4", "--steps", "1")
    done("sample", "theirs", "-n", "2", "--steps", "1", "-o", home.parent / "drawn.png")
    sharpness = ("--kind", "sharpness", "-n", "4")
    done("landscape", "theirs", *sharpness, "-o", home.parent / "sharp.png")
    done("score", "theirs", "--calibration")


def test_larger_images_come_in_smaller_batches() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 9, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = wrap(net, shape=(3, 64, 64), classes=4, mean=0, std=1)
    listener = Listener()
    own = {"images": torch.rand(3, 3, 64, 64), "labels": torch.tensor([0, 1, 2])}
    attack(model, **own, attacks=("fgsm",), eps=0.1, reporter=listener)
    drawn = {"init": "uniform", "num": 1, "steps": 1}
    sample(model, **drawn, reporter=listener)
    expected = "16 images of 3x64x64 at once; `--batch-size` sets another number"
    assert listener.said.count(expected) == 2
    sample(model, **drawn, batch_size=16, reporter=listener)
    assert listener.said.count(expected) == 2


def test_sampling_from_a_network_of_ones_own() -> None:
    model = wrap(Net(), dataset="digits", **RAW)
    drawn = sample(model, init="uniform", num=3, steps=2, device="cpu")
    assert drawn.images.shape == (3, 1, 8, 8)


@pytest.mark.parametrize("layer", ["linear", None])
def test_a_score_says_where_features_come_from(tmp_path: Path, layer: str | None) -> None:
    judge = wrap(
        Net(lambda logits: logits if layer else 2 * logits), dataset="digits", name="mine", **RAW
    )
    listener = Listener()
    settings = {"features": judge, "num": 20, "kid_subsets": 2, "kid_subset_size": 10}
    artist = wrap(Net(), dataset="digits", **RAW)
    image_scores(artist, reporter=listener, steps=1, init="uniform", **settings)
    expected = f"what `{layer}` takes" if layer else "its logits"
    assert any(f"features of `mine`: {expected}" in text for text in listener.said)
