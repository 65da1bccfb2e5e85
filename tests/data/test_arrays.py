"""Images as arrays: an archive of one's own, and the corrupted CIFARs, under the verbs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import LATEST, STANDARD, done, here, one, refused
from helpers.runs import Listener
from torch import Tensor, nn
from torch.nn import functional as F

from jeatcli import attack, load, train, wrap
from jeatcli.data import corrupted as corrupted_module
from jeatcli.data.facts import CORRUPTIONS, DATASETS, dataset_facts
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError, UsageProblem

DIGITS = load_images("digits", "test").first(60)
PIXELS, LABELS = DIGITS.x.permute(0, 2, 3, 1).numpy(), DIGITS.y.numpy()
IGNORED = LABELS.copy()
IGNORED[[7, 9]] = 255


def archive(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "own.npz", **arrays)
    return f"npz:{folder / 'own.npz'}"


@pytest.mark.parametrize(
    "arrays",
    [
        {"image": PIXELS, "label": LABELS},
        {"images": PIXELS, "labels": LABELS[:, None]},
        {"arr_0": PIXELS, "arr_1": LABELS.astype(np.uint8)},
        {"arr_0": PIXELS, "arr_1": LABELS.astype(np.uint64)},
        {"arr_0": PIXELS, "arr_1": LABELS.astype(">i4")},
        {"images": PIXELS[..., 0], "labels": LABELS},
        {"images": PIXELS.transpose(0, 3, 1, 2), "labels": LABELS},
        {"images": (PIXELS / 255).astype(np.float32), "labels": LABELS},
        {"test_images": PIXELS, "test_labels": LABELS, "train_images": PIXELS},
    ],
)
def test_every_layout_is_read(tmp_path: Path, arrays: dict[str, Any]) -> None:
    found = load_images(archive(tmp_path, **arrays), "test")
    assert found.x.equal(DIGITS.x)
    assert found.y.equal(DIGITS.y)
    assert found.classes == DIGITS.classes


@pytest.mark.parametrize(
    "more",
    [
        {"labels": IGNORED, "classes": [f"c{k}" for k in range(256)]},
        {"labels": np.where(LABELS == 4, 255, LABELS)},  # of many classes, which are not all here
        {"labels": np.arange(60) + 196},
    ],
)
def test_255_may_be_a_class(tmp_path: Path, more: dict[str, Any]) -> None:
    assert len(load_images(archive(tmp_path, images=PIXELS, **more), "test").classes) == 256


def test_all_bytes_may_be_classes(tmp_path: Path) -> None:
    images = np.arange(256, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2)
    found = load_images(archive(tmp_path, images=images, labels=np.arange(256)), "test")
    assert len(found.classes) == 256


def test_floats_that_are_no_bytes_stay_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((4, 8, 8, 1))
    found = load_images(archive(tmp_path, images=pixels, labels=np.arange(4)), "test")
    np.testing.assert_allclose(found.x.permute(0, 2, 3, 1).numpy(), pixels, atol=1e-7)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": PIXELS, "y": LABELS}, "holds `x`, `y`, not images and labels"),
        ({"images": PIXELS * 1.0, "labels": LABELS}, "not in [0, 1]"),
        ({"images": PIXELS, "labels": LABELS[:9]}, "have the shape 9 for 60 images"),
        ({"images": PIXELS, "labels": LABELS * 0.5}, "torch.float64"),
        (
            {"images": PIXELS, "labels": LABELS - 1},
            "go from -1 to 8; -1 at index 8 is the first that is none",
        ),
        ({"images": PIXELS, "labels": IGNORED}, "go from 0 to 9, but for 255 at index 7"),
        (
            {"test_images": PIXELS, "test_labels": LABELS}
            | {"train_images": PIXELS, "train_labels": IGNORED},
            "go from 0 to 9, but for 255 at index 7",
        ),
        ({"images": PIXELS, "labels": LABELS, "classes": ["a"]}, "the label 9, and as classes a"),
        ({"images": PIXELS // 255, "labels": LABELS}, "uint8 from 0 to 1"),
        ({"images": PIXELS, "labels": LABELS, "classes": list("abcdefghia")}, "the label 9"),
        ({"images": PIXELS, "labels": LABELS, "classes": list("abcdefghi ")}, "the label 9"),
        ({"images": PIXELS, "labels": LABELS.astype(str)}, "the labels of"),
        ({"images": PIXELS.astype(str), "labels": LABELS}, "the images of"),
        (
            {"images": PIXELS, "labels": LABELS, "train_images": PIXELS}
            | {"train_labels": LABELS * np.nan},
            "torch.float64",
        ),
        ({"images": np.array([{}]), "labels": LABELS}, "cannot read images"),
        ({"images": np.array(3), "labels": np.array(3)}, "have the shape "),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, "have the shape 0x8x8x1"),
        ({"images": PIXELS.repeat(4, 3), "labels": LABELS}, "have the shape 60x8x8x4"),
        ({"images": PIXELS.repeat(2, 3).transpose(0, 3, 1, 2), "labels": LABELS}, "60x2x8x8"),
        ({"images": PIXELS / np.longdouble(255), "labels": LABELS}, "read as numbers (float128)"),
        ({"images": PIXELS, "labels": LABELS.astype(np.longdouble)}, "read as numbers (float128)"),
        ({"images": PIXELS, "labels": LABELS + 2**40}, "go up to 1,099,511,627,785"),
        ({"images": PIXELS, "labels": 0 * LABELS}, "go up to 0"),
        (
            {"images": PIXELS, "labels": LABELS, "train_images": PIXELS[:, 1:]}
            | {"train_labels": LABELS},
            "have images of 1x7x8 and 1x8x8",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(JeatError) as caught:
        load_images(archive(tmp_path, **arrays), "test")
    assert words in caught.value.message
    assert caught.value.hint


def test_an_archive_without_training_images(tmp_path: Path) -> None:
    name = archive(tmp_path, images=PIXELS, labels=LABELS)
    with pytest.raises(UsageProblem, match="no training images"):
        load_images(name, "train")


def test_names_and_absent_classes_of_an_archive(tmp_path: Path) -> None:
    names = np.array([b"zero", *map(str.encode, "123456789")])
    kept = LABELS != 3
    listener = Listener()
    path = archive(tmp_path, images=PIXELS[kept], labels=LABELS[kept], classes=names)
    assert load_images(path, "test", reporter=listener).classes[:2] == ("zero", "1")
    assert listener.said == ["no test picture of `3`: their accuracy is not measured"]


def test_floats_are_trained_on_as_bytes(tmp_path: Path) -> None:
    """The statistics of pixels and of classes, and starts of chains, are those of the images."""
    noise = np.random.default_rng(0).random((80, 8, 8, 1))
    split = {"images": noise, "labels": np.arange(80) % 2}
    name = archive(tmp_path, **{f"{s}_{k}": v for s in ("train", "test") for k, v in split.items()})
    options = {"method": "sada-jem", "arch": "small", "epochs": 1, "options": {"sgld_steps": 1}}
    train({"dataset": name, "limit": 64, **options}, tmp_path / "run")
    model = load(tmp_path / "run")
    assert model.meta.mean[0] == pytest.approx(0.5, abs=0.05)
    assert model.meta.std[0] == pytest.approx(1 / math.sqrt(12), abs=0.02)
    assert model.statistics is not None
    assert model.statistics.mean.mean() == pytest.approx(0.5, abs=0.05)


def test_a_run_is_tested_on_an_archive(home: Path, tmp_path: Path) -> None:
    name = archive(tmp_path, images=PIXELS, labels=LABELS)
    options = ("-n", 60, "--steps", 2)
    theirs = one("attack", "standard", *options, "--on", name)
    ours = one("attack", "standard", *options)
    assert (theirs["clean"], theirs["robust"]) == (ours["clean"], ours["robust"])
    assert theirs["dataset"] == name
    done("landscape", "standard", "--kind", "sharpness", "-n", "4", "--on", name)
    letters = archive(tmp_path, images=PIXELS, labels=LABELS, classes=list("abcdefghij"))
    refused(here("attack", LATEST, "--on", letters), 2, "knows 0, 1, 2")


def test_an_archive_with_both_splits_is_trained_on(home: Path, tmp_path: Path) -> None:
    train = load_images("digits", "train").first(160)
    pixels = train.x.permute(0, 2, 3, 1).numpy()
    name = archive(
        tmp_path,
        train_images=pixels,
        train_labels=train.y.numpy(),
        test_images=PIXELS,
        test_labels=LABELS,
    )
    words = [name if word == "digits" else word for word in STANDARD]
    done(*words, "-o", "own", "--arch", "small", "--val-split", "0")
    found = json.loads(done("attack", "own", "-n", "20", "--steps", "1", "--json"))
    assert found["dataset"] == name
    assert not any("trained on" in flag["text"] for flag in found["warnings"])


def test_corrupted_images(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    labels = np.tile(np.arange(10_000) % 10, 5)
    pixels = np.zeros((50_000, 32, 32, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.repeat(np.arange(5), 10_000)
    pixels[:, 0, 0, 1] = np.tile(np.arange(10_000) % 251, 5)
    np.save(folder / "fog.npy", pixels)
    np.save(folder / "labels.npy", labels)
    third = load_images("cifar10-c:fog:3", "test", data_dir=tmp_path)
    assert len(third) == 10_000
    assert set(third.x[:, 0, 0, 0].tolist()) == {2}
    np.save(folder / "frost.npy", pixels.astype(np.float32))
    with pytest.raises(JeatError, match="holds float32"):
        load_images("cifar10-c:frost", "test", data_dir=tmp_path)
    every = load_images("cifar10-c:fog", "test", data_dir=tmp_path)
    assert len(every) == 50_000
    assert every.x[:6, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 0]
    assert every.x[:6, 1, 0, 0].tolist() == [0, 0, 0, 0, 0, 1]
    assert every.y[:6].tolist() == [0, 0, 0, 0, 0, 1]
    assert third.classes == DATASETS["cifar10"].classes
    with pytest.raises(JeatError, match=r"snow\.npy` is missing") as caught:
        load_images("cifar10-c:snow:1", "test", data_dir=tmp_path)
    assert "CIFAR-10-C.tar" in str(caught.value.hint)
    with pytest.raises(UsageProblem, match="tests alone"):
        load_images("cifar10-c:fog", "train", data_dir=tmp_path)


@pytest.mark.parametrize(("severity", "each"), [("", 75), (":2", 15)])
def test_mean_corruption_error(
    severity: str, each: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published layout with 4 images for 10,000: severities one after the other."""
    monkeypatch.setattr(corrupted_module, "_ONE", 4)
    folder = tmp_path / "CIFAR-100-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(np.array([3, 1, 4, 1], np.uint8), 5))
    for number, kind in enumerate(CORRUPTIONS[:15]):
        pixels = np.zeros((20, 32, 32, 3), np.uint8)
        pixels[:, 0, 0, 0] = number
        pixels[:, 0, 0, 1] = np.repeat(np.arange(1, 6), 4)
        pixels[:, 0, 0, 2] = np.tile(np.arange(4), 5)
        np.save(folder / f"{kind}.npy", pixels)
    name = f"cifar100-c:all{severity}"
    images = load_images(name, "test", data_dir=tmp_path)
    assert len(images) == 4 * each
    kinds, severities, numbers = images.x[:, :, 0, 0].T.tolist()
    assert numbers == [k // each for k in range(4 * each)]
    assert images.y.tolist() == [[3, 1, 4, 1][number] for number in numbers]
    assert len(set(zip(kinds, severities, strict=True))) == each
    assert set(severities) == ({1, 2, 3, 4, 5} if each == 75 else {2})

    class Blind(nn.Module):
        """Is right where the corruption is none of the first three."""

        def forward(self, x: Tensor) -> Tensor:
            blurred = (255 * x[:, 0, 0, 0]).round() > 2
            right = torch.tensor([3, 1, 4, 1])[(255 * x[:, 2, 0, 0]).round().long() % 4]
            return F.one_hot(torch.where(blurred, right, 7), 100) + 0 * x.flatten(1)[:, :1]

    model = wrap(Blind(), dataset="cifar100", mean=0, std=1)
    found = attack(model, on=name, eps=0, steps=1, num=4 * each, data_dir=tmp_path, device="cpu")
    errors = found.corruption_errors
    assert errors is not None
    assert errors["mean"] == pytest.approx(0.2)
    assert errors["shot_noise"] == 1
    assert errors["fog"] == 0
    assert found.clean == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10-c:fogg", "unknown corruption `fogg`"),
        ("cifar10-c:fog:6", "no severity from 1 to 5"),
        ("svhn-c:fog", "unknown data set"),
        ("npz:", "unknown data set"),
        ("tar:x", "unknown data set"),
    ],
)
def test_names_that_are_none(name: str, words: str) -> None:
    with pytest.raises(UsageProblem, match=words):
        dataset_facts(name)


@pytest.mark.parametrize("kind", ["u1", "f2", "f4", ">f8"])
def test_an_image_is_the_same_in_any_type(kind: str, tmp_path: Path) -> None:
    """Half floats are no bytes to the last digit, and still those of the same pictures."""
    stored = PIXELS if kind == "u1" else (PIXELS / 255).astype(kind)
    found = load_images(archive(tmp_path, images=stored, labels=LABELS), "test")
    plain = load_images(archive(tmp_path, images=PIXELS, labels=LABELS), "test")
    assert torch.equal(found.fingerprints, plain.fingerprints)
