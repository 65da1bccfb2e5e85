"""Images as files: rounding, grids and what a PNG carries."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import save_images
from PIL import Image

from jeatcli.data import pictures, stored
from jeatcli.errors import JeatError


def test_rounds_to_the_nearest_and_clips() -> None:
    x = torch.tensor([-0.1, 0.0, 0.49 / 255, 0.5 / 255, 0.51 / 255, 254.6 / 255, 1.0, 1.1])
    assert pictures.to_uint8(x.double()).tolist() == [0, 0, 0, 1, 1, 255, 255, 255]


def test_every_level_survives() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(torch.from_numpy(pictures.to_uint8(levels.float() / 255)), levels)
    assert torch.equal(torch.from_numpy(pictures.to_uint8(levels)), levels)


def test_refuses_what_is_not_finite() -> None:
    with pytest.raises(JeatError, match="not finite"):
        pictures.to_uint8(np.array([0.5, np.nan]))


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_images_in_rows(channels: int) -> None:
    images = torch.linspace(0, 0.9, 5)[:, None, None, None].expand(5, channels, 4, 6)
    pixels = np.array(pictures.grid(images, columns=3, scale=2).convert("L"))
    assert pixels.shape == (2 * 10 + 2, 3 * 14 + 2)
    assert pixels[0, 0] == 96
    assert pixels[1, 1] == 96
    assert pixels[2, 2] == 0
    for index in range(5):
        top, left = 2 + index // 3 * 10, 2 + index % 3 * 14
        assert (pixels[top : top + 8, left : left + 12] == pixels[top, left]).all()
        assert pixels[top, left] == pictures.to_uint8(images[index, 0, :1, :1])[0, 0]
    assert (pixels[12:20, 30:] == 96).all()


def test_grid_is_nearly_square() -> None:
    assert pictures.grid(torch.zeros(10, 1, 8, 8)).size == (42, 32)
    assert pictures.grid(torch.zeros(2, 1, 8, 8), columns=10).size == (22, 12)


def test_png_carries_text_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    picture = pictures.grid(torch.rand(4, 3, 8, 8))
    pictures.save_png(picture, path, {"jeat": '{"class": "größer"}', "plain": "x"})
    with Image.open(path) as read:
        assert read.text == {"jeat": '{"class": "größer"}', "plain": "x"}
        assert np.array_equal(np.array(read), np.array(picture))
    assert [each.name for each in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_as_they_were(channels: int, tmp_path: Path) -> None:
    images = torch.rand(3, channels, 8, 8)
    files = save_images(images, tmp_path / "out", {"seed": "0"})
    assert [path.name for path in files] == ["000000.png", "000001.png", "000002.png"]
    for path, pixels in zip(files, pictures.to_uint8(images), strict=True):
        with Image.open(path) as read:
            assert np.array_equal(np.array(read).reshape(8, 8, channels), pixels.transpose(1, 2, 0))


def test_npz_has_the_layout_of_improved_diffusion(tmp_path: Path) -> None:
    images = torch.rand(3, 3, 4, 5)
    path = stored.save_npz(images, torch.tensor([2, 0, 1]), tmp_path / "a.npz", {"jeat": "{}"})
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["arr_0"].dtype == np.uint8
        assert np.array_equal(arrays["arr_0"], pictures.to_uint8(images).transpose(0, 2, 3, 1))
        assert arrays["arr_1"].tolist() == [2, 0, 1]
        assert str(arrays["jeat"]) == "{}"


def test_says_what_the_disk_objects_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JeatError, match="cannot write"):
        pictures.save_png(pictures.grid(torch.zeros(1, 1, 2, 2)), tmp_path / "file" / "a.png")


def test_headings_of_any_text_fit_on_a_line() -> None:
    """Names of classes come from files: Pillow refuses to measure lines, and halves of letters."""
    images = np.zeros((2, 1, 8, 8), np.uint8)
    plain = pictures.grid(images, 2, 8, headings=["a b", "?"])
    odd = pictures.grid(images, 2, 8, headings=["a\n b\t", "\ud800"])
    assert np.array_equal(np.asarray(odd), np.asarray(plain))


def test_a_mask_is_seen_on_white_and_in_eight_bits(tmp_path: Path) -> None:
    hole = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (0, 2, 4, 4))
    hole.save(tmp_path / "hole.png")
    assert (
        pictures.light_pixels(tmp_path / "hole.png")[0].tolist()
        == [[False] * 4] * 2 + [[True] * 4] * 2
    )
    Image.new("I;16", (4, 4), 200).save(tmp_path / "deep.png")
    with pytest.raises(JeatError, match="mode I;16"):
        pictures.light_pixels(tmp_path / "deep.png")


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    """To read it would wait for a writer, for ever."""
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(JeatError, match="not a regular file"):
        pictures.decode(tmp_path / "x.png")
