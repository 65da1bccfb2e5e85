"""No command writes over a file that it did not write, and each over its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import LATEST, done, here, refused, untouched
from PIL import Image

from jeatcli.data.pictures import save_png

ATTACK = ("attack", "-n", 3, "--steps", 1)
SAMPLE = ("sample", "-n", 2, "--steps", 1)
LANDSCAPE = ("landscape", "--grid", 3)
CALIBRATION = ("score", "--calibration")
NEIGHBOURS = ("score", "-n", 4, "--steps", 1, "--features", "standard", "--neighbours")
OUTPUTS = [
    ((*ATTACK, "-o"), ".json"),
    ((*ATTACK, "--save"), ".safetensors"),
    ((*ATTACK, "--plot"), ".png"),
    ((*ATTACK, "--plot"), ".svg"),
    ((*ATTACK, "--plot"), ".pdf"),
    ((*SAMPLE, "-o"), ".png"),
    ((*SAMPLE, "-o"), ".npz"),
    ((*SAMPLE, "--trace"), ".png"),
    ((*SAMPLE, "--trace"), ".gif"),
    ((*SAMPLE, "--trace"), ".webp"),
    ((*LANDSCAPE, "-o"), ".png"),
    ((*LANDSCAPE, "-o"), ".svg"),
    ((*LANDSCAPE, "-o"), ".pdf"),
    (CALIBRATION, ".png"),
    (CALIBRATION, ".svg"),
    (CALIBRATION, ".pdf"),
    (NEIGHBOURS, ".png"),
]


def name(case: tuple[tuple[object, ...], str]) -> str:
    return f"{case[0][0]} {case[0][-1]} {case[1]}"


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "working"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("case", OUTPUTS, ids=name)
def test_a_file_of_somebody_else_is_kept(
    home: Path, folder: Path, case: tuple[list[str], str]
) -> None:
    arguments, ending = case
    (folder / f"thesis{ending}").write_text("three years of work")
    with untouched(folder), untouched(home):
        said = here(*arguments, f"thesis{ending}")
    refused(said, 1, f"`thesis{ending}` exists and was not written by `jeat", "or remove that one")


@pytest.mark.parametrize("case", OUTPUTS, ids=name)
def test_another_ending_is_refused(home: Path, folder: Path, case: tuple[list[str], str]) -> None:
    run = home / LATEST
    with untouched(folder), untouched(home):
        for path in (run / "config.toml", run / "metrics.jsonl", "thesis.txt"):
            said = here(*case[0], path)
            refused(said, 2, f"{Path(path).name}`", "name a file")


def test_a_model_is_no_image_of_an_attack(home: Path) -> None:
    for model in ("model.safetensors", "state.safetensors"):
        with untouched(home):
            said = here(*ATTACK, "--save", home / LATEST / model)
        refused(said, 1, f"{model}` exists and was not written by `jeat attack --save`")


@pytest.mark.parametrize("case", OUTPUTS, ids=name)
def test_a_command_writes_over_its_own_file(folder: Path, case: tuple[list[str], str]) -> None:
    arguments, ending = case
    done(*arguments, f"mine{ending}")
    first = (folder / f"mine{ending}").stat().st_mtime_ns
    done(*arguments, f"mine{ending}")
    assert ending == ".npz" or (folder / f"mine{ending}").stat().st_mtime_ns > first
    for other in (other for other, its in OUTPUTS if its == ending and other[0] != arguments[0]):
        refused(here(*other, f"mine{ending}"), 1, f"`mine{ending}` exists and was not written by")


def test_the_numbers_of_a_landscape_go_over_no_other_archive(folder: Path) -> None:
    (folder / "plane.npz").write_text("somebody's")
    with untouched(folder):
        refused(here(*LANDSCAPE, "-o", "plane.png"), 1, "plane.npz` exists and was not written")


def test_pictures_of_others_in_a_folder(home: Path, folder: Path) -> None:
    (folder / "images").mkdir()
    for picture in ("000000.png", "000001.png", "000007.png"):
        theirs = folder / "images" / picture
        theirs.write_text("somebody's")
        with untouched(folder):
            said = here(*SAMPLE, "--format", "png", "-o", "images")
        refused(said, 1, f"`images/{picture}` exists and was not written by `jeat sample`")
        theirs.unlink()


def test_a_grid_of_the_training_is_no_drawing(home: Path, folder: Path) -> None:
    grid = folder / "epoch-005.png"
    settings = {"settings": json.dumps({"sampler": "sgld", "objective": "joint"})}
    save_png(Image.new("L", (8, 8)), grid, settings)
    with untouched(folder):
        refused(here(*SAMPLE, "-o", grid), 1, "epoch-005.png` exists and was not written by")
        refused(here(*SAMPLE, "-o", "a.png", "--trace", "a.png"), 2, "name the same file")


def test_a_class_is_no_directory(home: Path, folder: Path) -> None:
    """The name of a class comes from a file; part of a path it is a name like any other."""
    from jeatcli.cli.sample import name_for

    asked = {"interpolate": None, "image": None, "inpaint": None, "seed": 0}
    assert name_for({**asked, "classes": ("../../x", "T-shirt/top")}) == "_.__._x-T-shirt_top-seed0"
