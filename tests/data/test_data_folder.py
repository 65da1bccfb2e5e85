"""Folders of pictures, and everything that can be wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from jeatcli.data.images import load_images
from jeatcli.errors import Interrupted, JeatError
from jeatcli.robustness import evaluate
from jeatcli.training.resolve import resolve
from jeatcli.training.train import train


def paint(path: Path, colour: object, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Return a folder of two classes of ten pictures, 5 high and 6 wide."""
    for k in range(10):
        paint(tmp_path / "zoo" / "cat" / f"{k}.png", (200, k, 0))
        paint(tmp_path / "zoo" / "dog" / f"{k}.png", (0, k, 200))
    return tmp_path / "zoo"


def test_folder(zoo: Path) -> None:
    (zoo / "notes.txt").touch()
    (zoo / "cat" / "._0.png").write_bytes(b"a Macintosh's shadow file")
    (zoo / ".hidden").mkdir()
    train, test = load_images(f"folder:{zoo}", "train"), load_images(f"folder:{zoo}", "test")
    assert train.name == f"folder:{zoo}"
    assert train.classes == ("cat", "dog")
    assert train.x.shape == (18, 3, 5, 6)
    assert test.y.tolist() in ([0, 1], [1, 0])
    for images in (train, test):
        assert (images.x[images.y == 0, 0] == 200).all()
        assert (images.x[images.y == 1, 2] == 200).all()
    seen = [(int(y), int(x[1, 0, 0])) for i in (train, test) for x, y in zip(i.x, i.y, strict=True)]
    assert sorted(seen) == [(y, k) for y in (0, 1) for k in range(10)]
    again = load_images(f"folder:{zoo}", "train", limit=4)
    assert torch.equal(again.x, train.x[:4])
    assert again.y.bincount().tolist() == [2, 2]


def test_folder_with_its_own_splits(zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(zoo, tmp_path / "both" / "train")
    for name in ("cat", "dog"):
        paint(tmp_path / "both" / "test" / name / "a.png", (1, 2, 3))
    assert len(load_images(f"folder:{tmp_path / 'both'}", "train")) == 20
    assert load_images(f"folder:{tmp_path / 'both'}", "test").y.tolist() == [0, 1]
    paint(tmp_path / "both" / "test" / "emu" / "a.png", (1, 2, 3))
    with pytest.raises(JeatError, match="emu` is no class of the training pictures"):
        load_images(f"folder:{tmp_path / 'both'}", "train")


def test_folder_formats_and_modes(tmp_path: Path) -> None:
    for suffix in ("png", "JPG", "webp", "bmp"):
        paint(tmp_path / "grey" / "a" / f"1.{suffix}", 77, mode="L")
        paint(tmp_path / "grey" / "b" / f"1.{suffix}", 77, mode="L")
    images = load_images(f"folder:{tmp_path / 'grey'}", "train")
    # WebP knows colour only, and one colour picture makes all of them RGB.
    assert images.shape == (3, 5, 6)
    assert (images.x.int() - 77).abs().max() <= 2
    for path in (tmp_path / "grey").glob("*/1.webp"):
        path.unlink()
    assert load_images(f"folder:{tmp_path / 'grey'}", "train").shape == (1, 5, 6)
    paint(tmp_path / "grey" / "a" / "palette.png", 0, mode="P")
    paint(tmp_path / "grey" / "b" / "clear.png", (9, 9, 9, 0), mode="RGBA")
    assert load_images(f"folder:{tmp_path / 'grey'}", "train").shape == (3, 5, 6)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JeatError, match="nowhere` is no directory"):
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
    assert f"`{path}` is no readable picture" in str(caught.value)


def test_folder_with_mixed_sizes(zoo: Path) -> None:
    paint(zoo / "cat" / "odd.png", (0, 0, 0), size=(7, 7))
    with pytest.raises(JeatError, match="different sizes") as caught:
        load_images(f"folder:{zoo}", "train")
    assert "odd.png` is 7x7" in str(caught.value)
    assert "is 6x5" in str(caught.value)


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
    with pytest.raises(JeatError, match="are not those that"):
        train(config, tmp_path / "run")
    (zoo / "3.png").rename(zoo / "cat" / "3.png")
    train(config, tmp_path / "run")
    (zoo / "cat").rename(zoo / "eel")
    with pytest.raises(JeatError, match=r"trained on the classes cat, dog, but .* has dog, eel"):
        evaluate.attack(tmp_path / "run", attacks=["fgsm"])
