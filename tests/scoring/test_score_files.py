"""Images that are there already: read in every format, and refused where they cannot be."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pictures import save_images
from helpers.runs import Listener, load_run
from PIL import Image

from jeatcli.checkpoints.model import Model
from jeatcli.data import stored
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.sampling import writers
from jeatcli.sampling.sample import prepare
from jeatcli.scoring.image_scores import Scores, image_scores


def score_folder(path: Path, judge: Model, **settings: Any) -> Scores:
    return image_scores(path, features=judge, **settings)


@pytest.mark.parametrize(
    ("mode", "size", "found"),
    [
        ("L", (9, 8), "9x8 in mode L"),
        ("RGB", (8, 8), "mode RGB"),
        ("LA", (8, 8), "mode LA"),
        ("P", (8, 8), "mode P"),
        ("I;16", (8, 8), "mode I;16"),
    ],
)
def test_pictures_of_another_kind(
    mode: str, size: tuple[int, int], found: str, judge: Model, tmp_path: Path
) -> None:
    save_images(torch.rand(2, 1, 8, 8), tmp_path / "p")
    Image.new(mode, size).save(tmp_path / "p" / "odd.png")
    with pytest.raises(JeatError, match=rf"odd\.png.*{found}"):
        score_folder(tmp_path / "p", judge)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "CMYK"])
def test_colour_pictures_of_another_kind(mode: str, tmp_path: Path) -> None:
    colour = load_run("colour", dataset="cifar10")
    save_images(torch.rand(2, 3, 32, 32), tmp_path / "p")
    ending = ".jpg" if mode == "CMYK" else ".png"
    Image.new(mode, (32, 32)).save(tmp_path / "p" / f"odd{ending}")
    with pytest.raises(JeatError, match=rf"odd\{ending}` is 32x32 in mode {mode}, .* mode RGB"):
        stored.read_images(tmp_path / "p", colour.meta.shape)


def test_broken_and_lossy_pictures(judge: Model, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for k in range(3):
        Image.new("L", (8, 8), 50 * k).save(folder / f"{k}.jpg")
    listener = Listener()
    protocol = score_folder(folder, judge, reporter=listener).protocol
    assert protocol["n"] == 3
    assert "lossy" in protocol["rounding"]
    assert "lossy" in protocol["comparable"]
    assert any("lossy" in text for text in listener.said)
    (folder / "4.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    with pytest.raises(JeatError, match=r"4\.png` is not a readable picture"):
        score_folder(folder, judge)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"x": np.zeros((2, 8, 8, 1), np.uint8)}, "arr_0"),
        ({"arr_0": np.zeros((2, 8, 8, 1))}, "float64"),
        ({"arr_0": np.zeros((2, 1, 8, 8), np.uint8)}, r"\(2, 1, 8, 8\)"),
        ({"arr_0": np.array([{}], dtype=object)}, "cannot read"),
        ({"arr_0": np.eye(8, dtype=np.uint8)[None, ..., None]}, "are uint8 from 0 to 1"),
    ],
)
def test_archives_of_another_kind(
    arrays: dict[str, Any], found: str, judge: Model, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(JeatError, match=found):
        score_folder(tmp_path / "a.npz", judge)


def test_archives_of_every_name_are_scored(judge: Model, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(20, 8, 8, 1), dtype=np.uint8)
    scores = []
    for names in (("arr_0", "arr_1"), ("image", "label"), ("images", "labels")):
        np.savez(tmp_path / "a.npz", **dict(zip(names, (pixels, np.arange(20)), strict=True)))
        scores.append(score_folder(tmp_path / "a.npz", judge).fid)
    assert len(set(scores)) == 1


def test_pictures_of_zeros_and_ones_are_not_black(judge: Model, tmp_path: Path) -> None:
    folders = [f"{split}/{label}" for split in ("train", "test") for label in "ab"]
    for folder in ("flat", *folders):
        (tmp_path / folder).mkdir(parents=True)
        for k in range(4):
            Image.fromarray(np.eye(8, k=k, dtype=np.uint8)).save(tmp_path / folder / f"{k}.png")
    with pytest.raises(JeatError, match="are uint8 from 0 to 1"):
        score_folder(tmp_path / "flat", judge)
    with pytest.raises(JeatError, match="are uint8 from 0 to 1"):
        load_images(f"folder:{tmp_path}", "test")


def test_archive_that_is_none_or_absent(judge: Model, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"half an arch")
    with pytest.raises(JeatError, match="cannot read images"):
        score_folder(tmp_path / "a.npz", judge)
    with pytest.raises(JeatError, match="cannot read images"):
        score_folder(tmp_path / "absent.npz", judge)


def test_names_go_before_folders(
    judge: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    save_images(torch.rand(4, 1, 8, 8), tmp_path / "judge")
    assert image_scores("judge", features=judge, num=10, steps=1).protocol["n"] == 10
    save_images(torch.rand(4, 1, 8, 8), tmp_path / "pictures")
    assert image_scores("pictures", features=judge).protocol["n"] == 4


def test_every_format_gives_the_same_numbers(artist: Model, judge: Model, tmp_path: Path) -> None:
    plan = prepare(artist, num=20, steps=1)
    writers.save_folder(plan, tmp_path / "images")
    writers.save_npz(plan, tmp_path / "images.npz")
    numbers = []
    for source in (artist, tmp_path / "images", tmp_path / "images.npz"):
        settings = {"num": 20, "steps": 1} if source is artist else {}
        numbers.append(asdict(image_scores(source, features=judge, **settings)))
    for name in ("inception_score", "fid", "kid", "kid_std", "precision", "recall"):
        assert len({each[name] for each in numbers}) == 1


def test_the_first_images_of_a_sorted_archive_are_warned_of(judge: Model, tmp_path: Path) -> None:
    images, labels = np.zeros((100, 8, 8, 1), np.uint8), np.arange(100) // 10
    np.savez(tmp_path / "sorted.npz", arr_0=images, arr_1=labels)
    np.savez(tmp_path / "mixed.npz", arr_0=images, arr_1=labels.reshape(10, 10).T.ravel())
    for name, expected in (("sorted", True), ("mixed", False)):
        listener = Listener()
        settings = {"features": judge, "num": 20, "reporter": listener}
        image_scores(tmp_path / f"{name}.npz", dataset="digits", **settings)
        assert any("of 2 of 10 classes" in text for text in listener.said) is expected


def test_an_archive_that_is_bent(judge: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    noise = np.random.default_rng(0).integers(256, size=(60, 8, 8, 1), dtype=np.uint8)
    np.savez_compressed(path, arr_0=noise)
    bent = bytearray(path.read_bytes())
    bent[200:260] = bytes(60)
    path.write_bytes(bent)
    with pytest.raises(JeatError, match="cannot read images"):
        score_folder(path, judge)


@pytest.mark.parametrize("name", ["images", "images.npz"])
def test_what_was_drawn_is_told_of_its_files(
    name: str, artist: Model, judge: Model, tmp_path: Path
) -> None:
    save = writers.save_npz if name.endswith(".npz") else writers.save_folder
    save(prepare(artist, num=25, steps=1, best_of=2, seed=3), tmp_path / name)
    protocol = image_scores(tmp_path / name, features=judge).protocol
    direct = image_scores(artist, features=judge, num=25, steps=1, best_of=2, seed=3).protocol
    assert protocol == direct
    assert protocol["selection"] == "the best of 2 by joint energy"
    assert protocol["classes"] == "10, 2 or 3 of each"
    fewer = image_scores(tmp_path / name, features=judge, num=20).protocol
    assert fewer["classes"] == "10, 2 of each"
    assert "judges itself" in image_scores(tmp_path / name, features=artist).protocol["comparable"]


def test_images_of_two_drawings_say_nothing_together(
    artist: Model, judge: Model, tmp_path: Path
) -> None:
    writers.save_folder(prepare(artist, num=4, steps=1), tmp_path / "one")
    writers.save_folder(prepare(artist, num=6, steps=1, seed=1), tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        file.rename(tmp_path / "two" / f"more-{file.name}")
    protocol = image_scores(tmp_path / "two", features=judge).protocol
    assert protocol["n"] == 10
    assert protocol["selection"] == protocol["classes"] == "not known"
    assert "how the images were chosen is not known" in protocol["comparable"]


def test_images_that_are_missing_are_told(artist: Model, judge: Model, tmp_path: Path) -> None:
    writers.save_folder(prepare(artist, num=30, steps=1), tmp_path / "set")
    whole = image_scores(tmp_path / "set", features=judge).protocol
    assert whole["selection"] == "none"
    assert image_scores(tmp_path / "set", features=judge, num=20).protocol["selection"] == "none"
    (tmp_path / "set" / "000003.png").unlink()
    thinned = image_scores(tmp_path / "set", features=judge).protocol
    assert thinned["selection"] == "29 of the 30 or more that were drawn"
    assert "selected images: 29 of the 30" in thinned["comparable"]
    shutil.copy(tmp_path / "set" / "000004.png", tmp_path / "set" / "000003.png")
    filled = image_scores(tmp_path / "set", features=judge).protocol
    assert filled["selection"] == "not known"


def test_an_archive_that_was_thinned_out_is_told(
    artist: Model, judge: Model, tmp_path: Path
) -> None:
    path = tmp_path / "set.npz"
    writers.save_npz(prepare(artist, num=30, steps=1), path)
    with np.load(path) as arrays:
        kept = {name: each if name == "jeat" else each[10:] for name, each in arrays.items()}
    np.savez_compressed(path, **kept)
    protocol = image_scores(path, features=judge).protocol
    assert protocol["selection"] == "20 of the 30 or more that were drawn"


def test_a_seed_draws_nothing_of_images_that_are_there(judge: Model, tmp_path: Path) -> None:
    save_images(torch.rand(4, 1, 8, 8), tmp_path / "set")
    assert image_scores(tmp_path / "set", features=judge).seed is None
    with pytest.raises(UsageProblem, match="`seed` would change nothing"):
        image_scores(tmp_path / "set", features=judge, seed=0)


def test_archives_that_are_odd(judge: Model, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(256, size=(20, 8, 8, 1), dtype=np.uint8)
    path = tmp_path / "a.npz"
    # A label that is a scalar says nothing of the images.
    np.savez(path, arr_0=images, arr_1=np.int64(3), jeat='{"images": 20}')
    assert score_folder(path, judge).protocol["classes"] == "not known"
    # A text with `best_of` and no objective.
    text = '{"images": 20, "best_of": 4, "sampler": "sgld"}'
    np.savez(path, arr_0=images, arr_1=np.arange(20) % 10, jeat=text)
    assert score_folder(path, judge).protocol["selection"] == "the best of 4 by unknown energy"
    # A member without `.npy`; a member that says it is encrypted; a compression nobody knows.
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0", images.tobytes())
    with pytest.raises(JeatError, match=r"a\.npz` holds .*, not uint8"):
        score_folder(path, judge)
    np.savez(path, arr_0=images)
    content = path.read_bytes()
    for offset, value in ((6, b"\x01"), (8, b"\x63")):
        bent = bytearray(content)
        for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            start = bent.index(signature) + offset + shift
            bent[start : start + 1] = value
        path.write_bytes(bent)
        with pytest.raises(JeatError, match="cannot read images"):
            score_folder(path, judge)
