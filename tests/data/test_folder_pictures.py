"""The pictures of a folder: formats, sizes, colours."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import paint
from helpers.runs import Listener
from PIL import Image

from jeatcli.checkpoints.checkpoint import load
from jeatcli.data.images import load_images
from jeatcli.data.pictures import read_exact
from jeatcli.errors import JeatError
from jeatcli.robustness import evaluate
from jeatcli.training.resolve import resolve
from jeatcli.training.run_dir import run_name
from jeatcli.training.train import train


def test_a_grey_picture_is_the_same_in_colour(tmp_path: Path) -> None:
    for k in range(30):
        paint(tmp_path / "grey" / f"{k % 2}" / f"{k}.png", k, mode="L")
        paint(tmp_path / "colour" / f"{k % 2}" / f"{k}.png", (k, k, k))
    grey, colour = (load_images(f"folder:{tmp_path / name}", "test") for name in ("grey", "colour"))
    assert (grey.shape, colour.shape) == ((1, 5, 6), (3, 5, 6))
    assert torch.equal(grey.x.expand_as(colour.x), colour.x)
    assert torch.equal(grey.fingerprints, colour.fingerprints)


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
    assert "81 pictures resized to 8x8 (the middle square, bicubic)" in listener.said
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
    (zoo / "cat" / "deep.png").unlink()
    deep = zoo / "cat" / "deep.ppm"  # of which Pillow keeps the upper halves
    deep.write_bytes(b"P6 6 5 65535\n" + bytes(range(180)))
    with pytest.raises(JeatError, match=r"deep.ppm` has pixels of mode 16-bit RGB"):
        load_images(f"folder:{zoo}", "train")
    with pytest.raises(JeatError, match=r"deep.ppm` has pixels of mode 16-bit RGB"):
        read_exact(deep, (3, 5, 6))
    deep.rename(deep := deep.with_suffix(".png"))
    deep.write_bytes(deep_png(bytes(range(180))))
    with pytest.raises(JeatError, match=r"deep.png` has pixels of mode 16-bit RGB"):
        load_images(f"folder:{zoo}", "train")


def deep_png(pixels: bytes) -> bytes:
    """Return a PNG of 6x5 pixels with 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + pixels[start : start + 36] for start in range(0, 180, 36))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def test_an_orientation_is_ignored_and_said(zoo: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 5), "red").save(zoo / "cat" / "turned.jpg", exif=exif)
    listener = Listener()
    load_images(f"folder:{zoo}", "train", reporter=listener)
    assert "1 of all pictures have an EXIF orientation, which is ignored" in listener.said


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 0, 0))])
def test_a_transparent_colour_is_not_dropped(mode: str, colour: object, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new(mode, (8, 8)).save(path, transparency=colour)
    with pytest.raises(JeatError, match=f"is 8x8 in mode {mode} with a transparent colour"):
        read_exact(path, (len(mode), 8, 8))
