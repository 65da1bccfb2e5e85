"""Accuracy on corrupted images, its mean error and the heat map."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import done, here, one, refused
from helpers.runs import save_run

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.data.images import load_images
from jeatcli.errors import UsageProblem
from jeatcli.plots.corruptions import save_heat_map
from jeatcli.scoring import corruptions

# The whole list takes minutes.
FEW = ("fog", "glass_blur", "snow")
NUM = 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sparse files: black images but for the first ones of each severity."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(np.arange(10_000) % 10, 5))
    first = folder / f"{FEW[0]}.npy"
    pixels = np.lib.format.open_memmap(first, "w+", np.uint8, (50_000, 32, 32, 3))
    random = np.random.default_rng(0)
    for severity in range(5):
        pixels[10_000 * severity :][:NUM] = random.integers(256, size=(NUM, 32, 32, 3))
    pixels.flush()
    for kind in FEW[1:]:
        os.link(first, folder / f"{kind}.npy")
    return tmp_path


def test_mean_error_and_heat_map(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(save_run("model", dataset="cifar10"), device="cpu")
    # The clean images are in no file here.
    clean = load_images("cifar10-c:fog:1", "test", data_dir=data).first(NUM)
    monkeypatch.setattr(Model, "test_images", lambda *_: clean)
    monkeypatch.setattr(corruptions, "KINDS", FEW)
    picture = data / "map.svg"
    ask = ("score", "model", "--corruptions", "-n", NUM, "--data-dir", data)
    found = one(*ask)["corruptions"]
    assert list(found["accuracy"]) == list(FEW)
    for severity in range(5):
        images = load_images(f"cifar10-c:fog:{severity + 1}", "test", data_dir=data).first(NUM)
        right = model.classifier(images.x.float() / 255).argmax(1) == images.y
        assert found["accuracy"]["fog"][severity] == right.double().mean().item()
    errors = [1 - value for row in found["accuracy"].values() for value in row]
    assert found["mean_error"] == pytest.approx(sum(errors) / 15)
    assert found["n"] == NUM
    shown = done(*ask[:3], picture, *ask[3:], "--title", "mine")
    assert f"(3 corruptions, 5 severities, {NUM} images each)" in shown
    assert "snow" in shown
    assert "5 severities, 1 image each)" in done(*ask[:4], 1, *ask[5:])
    assert "glass blur" in picture.read_text().replace("\xa0", " ")
    # It is drawn over, and nothing else is.
    done(*ask[:3], picture, *ask[3:])
    other = data / "other.svg"
    other.write_text("mine")
    refused(here(*ask[:3], other, *ask[3:]), 1, "other.svg")
    one_file = ("--calibration", data / "both.svg", "--corruptions", data / "both.svg")
    refused(here("score", "model", *one_file), 2, "name the same file", "choose two")
    (data / "CIFAR-10-C" / "snow.npy").unlink()
    refused(here(*ask), 1, "CIFAR-10-C/snow.npy` is missing", "https://zenodo.org/records/2535967")


def test_no_more_images_are_read_than_are_asked_for(data: Path) -> None:
    for name, read in (("cifar10-c:fog:3", 7), ("cifar10-c:fog", 10)):
        whole = load_images(name, "test", data_dir=data)
        few = load_images(name, "test", data_dir=data, limit=7)
        assert torch.equal(few.x, whole.x[:7])
        assert torch.equal(few.y, whole.y[:7])
        assert few.x.untyped_storage().nbytes() == read * 3 * 32 * 32
    with pytest.raises(UsageProblem, match="which has 50,000"):
        load_images("cifar10-c:fog", "test", data_dir=data, limit=50_001)
    with pytest.raises(UsageProblem, match="which has 50,000"):
        load_images("cifar10-c:fog", "test", data_dir=data, limit=0)


def test_the_heat_map_rounds_halves_up(tmp_path: Path) -> None:
    found = corruptions.Corrupted(40, {"fog": [0.124, 0.125, 0.145, 0.986, 1.0]}, 0.5)
    text = save_heat_map(found, tmp_path / "map.svg", "run").read_text()
    shares = re.findall(r"font-size: 7[.\d]*px[^>]*text-anchor: middle[^>]*>(\d+)<", text)
    assert shares == ["12", "13", "15", "99", "100"]


def test_the_benchmark_has_fifteen() -> None:
    assert len(corruptions.KINDS) == 15
    assert not {"speckle_noise", "gaussian_blur", "spatter", "saturate"} & set(corruptions.KINDS)


def test_a_network_of_other_images_has_no_corruptions() -> None:
    save_run("model")
    refused(here("score", "model", "--corruptions"), 2, "published for cifar10 and cifar100")
