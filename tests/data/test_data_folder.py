"""A folder of pictures as a data set: classes, names, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.pictures import contents, paint
from helpers.runs import Listener

from jeatcli.data.images import load_images
from jeatcli.errors import JeatError


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


def test_what_is_left_out_is_said(zoo: Path) -> None:
    shutil.copytree(zoo / "cat", zoo / "cat" / "more")
    shutil.copytree(zoo / "dog", zoo / "_dog")
    for name in ("cat/notes.txt", "labels.csv", "README"):
        (zoo / name).touch()
    listener = Listener()
    images = load_images(f"folder:{zoo}", "train", reporter=listener)
    assert listener.said == [
        f"`{zoo}`: {len(images)} training pictures of 2 classes; left out: 1 `.csv`, 1 `.txt`, "
        "40 in `_dog/`, 40 in `cat/more/`, 1 without an ending"
    ]


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


@pytest.mark.parametrize("size", ["0", "-3", "64px", "99999"])
def test_a_size_that_is_none(size: str, zoo: Path) -> None:
    with pytest.raises(JeatError, match="is not a directory") as caught:
        load_images(f"folder:{zoo}@{size}", "train")
    assert "from 1 to 9999: `folder:PATH@64`" in str(caught.value.hint)


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
