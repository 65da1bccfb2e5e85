"""Which pictures of a folder are trained on, and which are tested on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures import contents, paint
from helpers.runs import Listener
from PIL import Image

from jeatcli.checkpoints.checkpoint import load
from jeatcli.data.folder import fingerprint, is_test
from jeatcli.data.images import load_images
from jeatcli.errors import Interrupted, JeatError
from jeatcli.robustness import evaluate
from jeatcli.training.resolve import resolve
from jeatcli.training.train import train


def test_a_picture_stays_in_its_split(zoo: Path) -> None:
    """Whatever it is called, in whatever lossless format, whatever is added or removed."""
    train, test = contents(zoo, "train"), contents(zoo, "test")
    whole = load_images(f"folder:{zoo}", "train").digest
    for k, path in enumerate(sorted(zoo.glob("*/*.png"))):
        path.rename(path.with_name(f"new-{97 * k % 83:03d}.png"))
    assert load_images(f"folder:{zoo}", "train").digest == whole
    for path, ending in zip(
        sorted(zoo.glob("*/*.png")), 20 * ["bmp", "gif", "tif", "ppm"], strict=True
    ):
        with Image.open(path) as image:
            image.save(path.with_suffix(f".{ending}"))
        path.unlink()
    assert load_images(f"folder:{zoo}", "train").digest == whole
    for k in range(60):
        paint(zoo / "cat" / f"more-{k}.webp", (100, 100, k))
    assert contents(zoo, "train") > train
    assert contents(zoo, "test") > test
    for path in sorted(zoo.glob("*/new*"))[::3]:
        path.unlink()
    assert not contents(zoo, "train") & test
    assert not contents(zoo, "test") & train


def test_a_tenth_of_the_pictures_is_the_test_set() -> None:
    pixels = np.zeros((3000, 2, 2, 3), np.uint8)
    pixels.reshape(3000, -1)[:, :2] = np.arange(3000)[:, None] // [256, 1] % 256
    share = np.mean([is_test(fingerprint(each)) for each in pixels])
    assert abs(share - 0.1) < 3 * (0.09 / 3000) ** 0.5


def test_a_directory_beside_the_splits_is_left_out(zoo: Path, tmp_path: Path) -> None:
    for split in ("train", "test", "val"):
        shutil.copytree(zoo, tmp_path / "both" / split)
    listener = Listener()
    load_images(f"folder:{tmp_path / 'both'}", "test", reporter=listener)
    (said,) = listener.said
    assert said.endswith("80 test pictures of 2 classes; left out: 80 in `val/`")


def test_a_single_picture_of_a_class_is_one(zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(zoo, tmp_path / "both" / "train")
    for name in ("cat", "dog"):
        (tmp_path / "both" / "test" / name).mkdir(parents=True)
    shutil.copy(zoo / "cat" / "3.png", tmp_path / "both" / "test" / "cat")
    listener = Listener()
    load_images(f"folder:{tmp_path / 'both'}", "test", reporter=listener)
    assert listener.said[0].endswith("both`: 1 test picture of 1 class")


def test_a_class_that_is_never_tested_is_named(zoo: Path, tmp_path: Path) -> None:
    fingerprints = load_images(f"folder:{zoo}", "train").fingerprints
    assert len(fingerprints.unique()) == len(fingerprints)
    paint(zoo / "emu" / "0.png", next_colour(test=False))
    listener = Listener()
    load_images(f"folder:{zoo}", "test", reporter=listener)
    assert listener.said[-1] == "no test picture of `emu`: their accuracy is not measured"
    for split in ("train", "test"):
        shutil.copytree(zoo, tmp_path / "both" / split)
    shutil.rmtree(tmp_path / "both" / "test" / "dog")
    images = load_images(f"folder:{tmp_path / 'both'}", "test", reporter=listener)
    assert set(images.y.tolist()) == {0, 2}
    assert listener.said[-1] == "no test picture of `dog`: their accuracy is not measured"


def next_colour(test: bool) -> tuple[int, int, int]:
    """Return a colour whose picture is in that split."""
    for k in range(256):
        pixels = np.full((5, 6, 3), (50, 50, k), np.uint8)
        if is_test(fingerprint(pixels)) == test:
            return (50, 50, k)
    raise LookupError


def test_a_folder_too_small_to_be_tested(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / "zoo" / name / "0.png", next_colour(test=False))
    load_images(f"folder:{tmp_path / 'zoo'}", "train")
    with pytest.raises(JeatError, match=r"none of the 2 pictures .* belongs to the test set"):
        load_images(f"folder:{tmp_path / 'zoo'}", "test")


def test_folder_with_its_own_splits(zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(zoo, tmp_path / "both" / "train")
    for name in ("cat", "dog"):
        paint(tmp_path / "both" / "test" / name / "a.png", (1, 2, 3))
    assert len(load_images(f"folder:{tmp_path / 'both'}", "train")) == 80
    assert load_images(f"folder:{tmp_path / 'both'}", "test").y.tolist() == [0, 1]
    paint(tmp_path / "both" / "test" / "emu" / "a.png", (1, 2, 3))
    with pytest.raises(JeatError, match="emu` is not a class of the training pictures"):
        load_images(f"folder:{tmp_path / 'both'}", "train")


def test_folder_with_half_a_split(zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(zoo, tmp_path / "both" / "train")
    shutil.copytree(zoo, tmp_path / "both" / "val")
    with pytest.raises(JeatError, match="class `train` has no picture") as caught:
        load_images(f"folder:{tmp_path / 'both'}", "train")
    assert "`train` and `test`" in str(caught.value.hint)


def test_a_run_is_tied_to_its_folder(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it lies, which pictures are in it, and what its classes are called."""
    monkeypatch.chdir(tmp_path)
    quick = {"method": "standard", "arch": "small", "epochs": 2, "eval_every": 0, "sample_every": 0}
    config = resolve({"dataset": "folder:zoo", "batch_size": 6, **quick})
    assert config.dataset == f"folder:{zoo}"
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) == 4

    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", should_stop=stop)
    (zoo / "cat" / "3.png").rename(zoo / "3.png")
    with pytest.raises(
        JeatError, match=r"are not those that .* split folders by file names and not by content"
    ):
        train(config, tmp_path / "run")
    (zoo / "3.png").rename(zoo / "cat" / "3.png")
    train(config, tmp_path / "run")
    (zoo / "cat").rename(zoo / "eel")
    with pytest.raises(JeatError, match=r"trained on the 2 classes cat, dog, but .* dog, eel"):
        evaluate.attack(tmp_path / "run", attacks=["fgsm"])


def test_training_images_are_never_tested_in_silence(zoo: Path, tmp_path: Path) -> None:
    """Those that a run was trained on are found again wherever they lie."""
    quick = {"method": "standard", "arch": "small", "epochs": 1, "eval_every": 0, "sample_every": 0}
    config = resolve({"dataset": f"folder:{zoo}", "batch_size": 6, **quick})
    train(config, tmp_path / "run", device="cpu")
    model, listener = load(tmp_path / "run", device="cpu"), Listener()
    assert model.trained_on is not None
    model.accepts(load_images(config.dataset, "test"), listener)
    assert listener.said == []
    train_images = load_images(config.dataset, "train")
    model.accepts(train_images.first(7), listener)
    assert listener.said == [
        f"`run` was trained on 7 of the 7 test images of {config.dataset}: results on them are too "
        "optimistic"
    ]
    # Under another name, too.
    twin = tmp_path / "elsewhere"
    shutil.copytree(zoo, twin / "train")
    shutil.copytree(zoo, twin / "test")
    model.test_images(f"folder:{twin}", None, listener)
    assert f"was trained on {len(train_images)} of the 80 test images" in listener.said[-1]
    old = replace(model, trained_on=None)
    evaluate.attack(old, attacks=["fgsm"], reporter=listener)
    assert any("does not record its training pictures" in text for text in listener.said)


def test_pictures_of_two_splits_or_two_classes_are_counted(zoo: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(zoo, tmp_path / "both" / split)
    shutil.copy(zoo / "cat" / "3.png", tmp_path / "both" / "train" / "dog" / "cat.png")
    said = []
    for limit in (40, 1):
        settings = {"epochs": 1, "batch_size": 8, "eval_every": 0, "sample_every": 0}
        source = {"dataset": f"folder:{tmp_path / 'both'}", "method": "standard", "arch": "small"}
        listener = Listener()
        config = resolve({**source, **settings, "limit": limit})
        train(config, tmp_path / f"run-{limit}", device="cpu", reporter=listener)
        said.append("\n".join(listener.said))
    assert "in more than one class: 1 picture\n" in said[0]
    assert "40 of the 80 images to evaluate on are training images, too" in said[0]
    assert "`limit` and `val_split` leave no training image of" in said[1]
