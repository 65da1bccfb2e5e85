"""Images that are there already: read in every format, and refused where they cannot be."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tiny import Listener

from jeatcli import fidelity, render
from jeatcli.checkpoint import Model
from jeatcli.errors import JeatError
from jeatcli.generate import sample
from jeatcli.score import Scores, image_scores


def score_folder(path: Path, judge: Model, **settings: object) -> Scores:
    return image_scores(path, features=judge, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "size", "found"),
    [("L", (9, 8), "9x8 in mode L"), ("RGB", (8, 8), "mode RGB"), ("LA", (8, 8), "mode LA")],
)
def test_pictures_of_another_kind(
    mode: str, size: tuple[int, int], found: str, judge: Model, tmp_path: Path
) -> None:
    render.save_images(torch.rand(2, 1, 8, 8), tmp_path / "p")
    Image.new(mode, size).save(tmp_path / "p" / "odd.png")
    with pytest.raises(JeatError, match=rf"odd\.png.*{found}"):
        score_folder(tmp_path / "p", judge)


def test_broken_and_lossy_pictures(judge: Model, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for k in range(3):
        Image.new("L", (8, 8), 50 * k).save(folder / f"{k}.jpg")
    listener = Listener()
    assert score_folder(folder, judge, reporter=listener).protocol["n"] == 3
    assert any("lossy" in text for text in listener.said)
    (folder / "4.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    with pytest.raises(JeatError, match=r"cannot read the picture .*4\.png"):
        score_folder(folder, judge)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"x": np.zeros((2, 8, 8, 1), np.uint8)}, "arr_0"),
        ({"arr_0": np.zeros((2, 8, 8, 1))}, "float64"),
        ({"arr_0": np.zeros((2, 1, 8, 8), np.uint8)}, r"\(2, 1, 8, 8\)"),
        ({"arr_0": np.array([{}], dtype=object)}, "cannot read"),
    ],
)
def test_archives_of_another_kind(
    arrays: dict[str, NDArray[np.uint8]], found: str, judge: Model, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(JeatError, match=found):
        score_folder(tmp_path / "a.npz", judge)


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
    render.save_images(torch.rand(4, 1, 8, 8), tmp_path / "judge")
    assert image_scores("judge", features=judge, num=10, steps=1).protocol["n"] == 10
    render.save_images(torch.rand(4, 1, 8, 8), tmp_path / "pictures")
    assert image_scores("pictures", features=judge).protocol["n"] == 4


def test_every_format_gives_the_same_numbers(artist: Model, judge: Model, tmp_path: Path) -> None:
    samples = sample(artist, num=20, steps=1)
    render.save_images(samples.images, tmp_path / "images")
    render.save_npz(samples.images, samples.labels, tmp_path / "images.npz")
    numbers = []
    for source in (artist, tmp_path / "images", tmp_path / "images.npz"):
        settings = {"num": 20, "steps": 1} if source is artist else {}
        numbers.append(asdict(image_scores(source, features=judge, **settings)))
    for name in [field.name for field in fields(fidelity.Figures)]:
        assert len({each[name] for each in numbers}) == 1
