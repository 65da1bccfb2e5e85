"""Folders of pictures, and everything that can be wrong with them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from helpers.runs import Listener
from PIL import Image

from jeatcli.checkpoints.checkpoint import load
from jeatcli.data.folder import fingerprint, is_test
from jeatcli.data.images import load_images
from jeatcli.errors import Interrupted, JeatError
from jeatcli.robustness import evaluate
from jeatcli.training.resolve import resolve
from jeatcli.training.run_dir import run_name
from jeatcli.training.train import train


def paint(path: Path, colour: object, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Return a folder of two classes of forty pictures, 5 high and 6 wide."""
    for k in range(40):
        paint(tmp_path / "zoo" / "cat" / f"{k}.png", (200, k, 0))
        paint(tmp_path / "zoo" / "dog" / f"{k}.png", (0, k, 200))
    return tmp_path / "zoo"


def contents(zoo: Path, split: Literal["train", "test"]) -> set[bytes]:
    return {x.numpy().tobytes() for x in load_images(f"folder:{zoo}", split).x}


def test_folder(zoo: Path) -> None:
    (zoo / "cat" / "._0.png").write_bytes(b"a Macintosh's shadow file")
    (zoo / ".hidden").mkdir()
    train, test = load_images(f"folder:{zoo}", "train"), load_images(f"folder:{zoo}", "test")
    assert train.name == f"folder:{zoo}"
    assert train.classes == ("cat", "dog")
    assert train.shape == (3, 5, 6)
    assert set(test.y.tolist()) == {0, 1}
    assert 2 <= len(test) <= 16
    for images in (train, test):
        assert (images.x[images.y == 0, 0] == 200).all()
        assert (images.x[images.y == 1, 2] == 200).all()
    seen = [(int(y), int(x[1, 0, 0])) for i in (train, test) for x, y in zip(i.x, i.y, strict=True)]
    assert sorted(seen) == [(y, k) for y in (0, 1) for k in range(40)]
    again = load_images(f"folder:{zoo}", "train", limit=4)
    assert torch.equal(again.x, train.x[:4])
    assert again.y.bincount().tolist() == [2, 2]


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


def test_a_grey_picture_is_the_same_in_colour(tmp_path: Path) -> None:
    for k in range(30):
        paint(tmp_path / "grey" / f"{k % 2}" / f"{k}.png", k, mode="L")
        paint(tmp_path / "colour" / f"{k % 2}" / f"{k}.png", (k, k, k))
    grey, colour = (load_images(f"folder:{tmp_path / name}", "test") for name in ("grey", "colour"))
    assert (grey.shape, colour.shape) == ((1, 5, 6), (3, 5, 6))
    assert torch.equal(grey.x.expand_as(colour.x), colour.x)
    assert torch.equal(grey.fingerprints, colour.fingerprints)


def test_what_is_left_out_is_said(zoo: Path) -> None:
    shutil.copytree(zoo / "cat", zoo / "cat" / "more")
    for name in ("cat/notes.txt", "labels.csv", "README"):
        (zoo / name).touch()
    listener = Listener()
    images = load_images(f"folder:{zoo}", "train", reporter=listener)
    assert listener.said == [
        f"`{zoo}`: {len(images)} training pictures of 2 classes; left out: 1 `.csv`, 1 `.txt`, "
        "40 in `cat/more/`, 1 without an ending"
    ]


def test_a_directory_beside_the_splits_is_left_out(zoo: Path, tmp_path: Path) -> None:
    for split in ("train", "test", "val"):
        shutil.copytree(zoo, tmp_path / "both" / split)
    listener = Listener()
    load_images(f"folder:{tmp_path / 'both'}", "test", reporter=listener)
    (said,) = listener.said
    assert said.endswith("80 test pictures of 2 classes; left out: 80 in `val/`")


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


def every(path: Path) -> torch.Tensor:
    """Return the pictures of a folder whose splits are the same."""
    for split in ("train", "test"):
        shutil.copytree(path, path.parent / f"{path.name}-both" / split, dirs_exist_ok=True)
    return load_images(f"folder:{path}-both", "train").x


def test_folder_formats_and_modes(tmp_path: Path) -> None:
    for suffix in ("png", "JPG", "bmp", "gif", "tiff", "pgm"):
        paint(tmp_path / "grey" / "a" / f"1.{suffix}", 77, mode="L")
        paint(tmp_path / "grey" / "b" / f"2.{suffix}", 77, mode="L")
    images = every(tmp_path / "grey")
    assert images.shape == (12, 1, 5, 6)
    assert (images.int() - 77).abs().max() <= 2
    # WebP knows colour only, and one colour picture makes all of them RGB.
    paint(tmp_path / "grey" / "a" / "1.webp", 77, mode="L")
    assert every(tmp_path / "grey").shape == (13, 3, 5, 6)
    paint(tmp_path / "colour" / "a" / "palette.png", 0, mode="P")
    paint(tmp_path / "colour" / "b" / "cmyk.jpg", (9, 9, 9, 0), mode="CMYK")
    assert every(tmp_path / "colour").shape == (2, 3, 5, 6)


@pytest.mark.parametrize(("alpha", "grey"), [(0, 255), (255, 9), (51, 206)])
def test_transparency_is_composed_on_white(alpha: int, grey: int, tmp_path: Path) -> None:
    """206 = 0.2 * 9 + 0.8 * 255."""
    for name in ("a", "b"):
        for split in ("train", "test"):
            paint(tmp_path / "zoo" / split / name / "0.png", (9, 9, 9, alpha), mode="RGBA")
            paint(tmp_path / "zoo" / split / name / "1.png", (9, alpha), mode="LA")
    listener = Listener()
    images = load_images(f"folder:{tmp_path / 'zoo'}", "train", reporter=listener)
    assert (images.x == grey).all()
    assert any("4 of all pictures have transparent parts" in text for text in listener.said) == (
        alpha < 255
    )


def test_an_animation_is_no_picture(zoo: Path) -> None:
    frames = [Image.new("RGB", (6, 5), (k, 0, 0)) for k in range(3)]
    frames[0].save(zoo / "cat" / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(JeatError, match=r"moving.gif` is not a readable picture: it has 3 frames"):
        load_images(f"folder:{zoo}", "train")


def test_other_formats_are_not_decoded(zoo: Path) -> None:
    """Pillow would run Ghostscript on an EPS file, whatever its name is."""
    (zoo / "cat" / "sly.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n")
    with pytest.raises(JeatError, match=r"sly.png` is not a readable picture: cannot identify"):
        load_images(f"folder:{zoo}", "train")


def test_a_class_whose_name_is_no_text(zoo: Path) -> None:
    try:
        (zoo / "cl\udcff").mkdir()
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    with pytest.raises(JeatError, match=r"the directory `cl\\xff` .* not UTF-8"):
        load_images(f"folder:{zoo}", "train")


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("train-images-idx3-ubyte.gz", "mnist"), ("data_batch_1", "cifar10")],
)
def test_the_files_of_a_published_data_set(name: str, dataset: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(JeatError, match=f"holds `{name}`, a file of a published") as caught:
        load_images(f"folder:{tmp_path}", "train")
    assert f"`--dataset {dataset}`" in str(caught.value.hint)


def test_a_name_of_a_superscript_digit(zoo: Path) -> None:
    paint(zoo / "cat" / "².png", (1, 1, 1))
    assert len(contents(zoo, "train") | contents(zoo, "test")) == 81


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JeatError, match="nowhere` is not a directory"):
        load_images(f"folder:{tmp_path / 'nowhere'}", "train")


def test_folder_of_one_class(zoo: Path) -> None:
    shutil.rmtree(zoo / "dog")
    with pytest.raises(JeatError, match=r"at least two directories.* only `cat`"):
        load_images(f"folder:{zoo}", "train")
    shutil.rmtree(zoo / "cat")
    with pytest.raises(JeatError, match="and has none"):
        load_images(f"folder:{zoo}", "train")


def test_folder_with_an_empty_class(zoo: Path) -> None:
    (zoo / "emu").mkdir()
    with pytest.raises(JeatError, match="class `emu` has no picture"):
        load_images(f"folder:{zoo}", "train")


def test_folder_with_half_a_split(zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(zoo, tmp_path / "both" / "train")
    shutil.copytree(zoo, tmp_path / "both" / "val")
    with pytest.raises(JeatError, match="class `train` has no picture") as caught:
        load_images(f"folder:{tmp_path / 'both'}", "train")
    assert "`train` and `test`" in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"", b"no picture at all", None])
def test_folder_with_an_unreadable_picture(content: bytes | None, zoo: Path) -> None:
    path = zoo / "cat" / "3.png"
    Image.effect_noise((6, 5), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(JeatError) as caught:
        # Truncated pixels are met where the picture is, in one split or the other.
        [load_images(f"folder:{zoo}", split) for split in ("train", "test")]
    assert f"`{path}` is not a readable picture" in str(caught.value)


def test_folder_with_mixed_sizes(zoo: Path) -> None:
    paint(zoo / "cat" / "odd.png", (0, 0, 0), size=(7, 7))
    with pytest.raises(JeatError, match="different sizes") as caught:
        load_images(f"folder:{zoo}", "train")
    assert "odd.png` is 7x7" in str(caught.value)
    assert "is 6x5" in str(caught.value)


def test_pictures_of_any_size_are_resized_if_a_size_is_named(zoo: Path) -> None:
    """To the middle square, in the split that they have without it."""
    rows = np.arange(80, dtype=np.uint8)[:, None, None]
    wide = np.broadcast_to(rows, (80, 200, 3)).copy()
    wide[:, :60] = wide[:, 140:] = 255  # outside the middle square
    Image.fromarray(wide).save(zoo / "cat" / "wide.png")
    listener = Listener()
    sets = [load_images(f"folder:{zoo}@8", split, reporter=listener) for split in ("train", "test")]
    assert {images.name for images in sets} == {f"folder:{zoo}@8"}
    assert {images.shape for images in sets} == {(3, 8, 8)}
    assert "the middle squares of 81 pictures are resized to 8x8 (bicubic)" in listener.said
    x = torch.cat([images.x for images in sets]).int()
    odd = x[(x[:, 0] == x[:, 2]).all((1, 2))]
    assert len(odd) == 1
    # The filter sees the borders as well, as it does where a picture is cropped after resizing.
    assert (odd[0, 0, :, 2:6] - (10 * torch.arange(8)[:, None] + 5)).abs().max() <= 1
    (zoo / "cat" / "wide.png").unlink()
    for split, images in zip(("train", "test"), sets, strict=True):
        plain = {int(pixels[1, 0, 0]) for pixels in load_images(f"folder:{zoo}", split).x}
        assert plain - {int(pixels[1, 0, 0]) for pixels in images.x} == set()


def test_a_run_on_resized_pictures(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size is part of the data set's name, which the run and its results record."""
    monkeypatch.chdir(tmp_path)
    quick = {"method": "standard", "arch": "small", "epochs": 1, "eval_every": 0, "sample_every": 0}
    config = resolve({"dataset": "folder:zoo@8", "batch_size": 6, **quick})
    assert (config.dataset, run_name(config)) == (f"folder:{zoo}@8", "zoo-8-standard-small")
    train(config, tmp_path / "run", device="cpu")
    model = load(tmp_path / "run", device="cpu")
    assert (model.meta.shape, model.meta.dataset) == ((3, 8, 8), config.dataset)
    paint(zoo / "cat" / "odd.png", (0, 0, 0), size=(70, 70))
    assert len(evaluate.attack(model, attacks=["fgsm"]).samples) > 0
    (zoo / "cat" / "odd.png").unlink()
    with pytest.raises(JeatError, match="takes 3x8x8 images") as caught:
        evaluate.attack(model, attacks=["fgsm"], on=f"folder:{zoo}")
    assert caught.value.hint == f"`folder:{zoo}@8` resizes them"
    zoo.rename(tmp_path / "pets@8")
    assert resolve({"dataset": "folder:pets@8/"}).dataset == f"folder:{tmp_path / 'pets@8'}/"
    assert load_images(f"folder:{tmp_path / 'pets@8'}/", "train").shape == (3, 5, 6)


def test_folder_with_deep_pixels(zoo: Path) -> None:
    paint(zoo / "cat" / "deep.png", 40_000, mode="I;16")
    with pytest.raises(JeatError, match=r"deep.png` has pixels of mode I;16"):
        load_images(f"folder:{zoo}", "train")


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
    assert "1 pictures are in more than one class" in said[0]
    assert "40 of the 80 images to evaluate on are training images, too" in said[0]
    assert "`limit` and `val_split` leave no training image of" in said[1]


def test_an_orientation_is_ignored_and_said(zoo: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 5), "red").save(zoo / "cat" / "turned.jpg", exif=exif)
    listener = Listener()
    load_images(f"folder:{zoo}", "train", reporter=listener)
    assert "1 of all pictures have an EXIF orientation, which is ignored" in listener.said
