"""Grids of drawn images: headings, traces, previews, and the options that go with them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import done, here, refused
from helpers.runs import save_run
from PIL import Image, ImageSequence

# Height of the classes above a grid, in pixels.
HEADING = 22


def test_traces_and_previews(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    drawing = ("sample", "jeat", "-n", 3, "--sampler", "ascent", "--steps", 16)
    ask = (*drawing, "--no-headings", "-o", tmp_path / "grid.png", "--trace")
    done(*ask, tmp_path / "strip.png", "--preview")
    with Image.open(tmp_path / "strip.png") as strip:
        # Three rows of nine states, each 64 x 64, lines of 2 around them.
        assert strip.size == (9 * 66 + 2, 3 * 66 + 2)
        assert json.loads(strip.info["jeat"])["trace"] == [0, 2, 4, 6, 8, 10, 12, 14, 16]
        last = np.array(strip)[:, 8 * 66 :]
    done(*drawing, "-o", tmp_path / "other.png", "--trace", tmp_path / "above.png")
    with Image.open(tmp_path / "above.png") as above:
        heading = above.height - 3 * 66 - 2
        words = np.array(above)[:heading]
        assert np.array_equal(np.array(above)[heading:, 8 * 66 :], last)
    assert all(words[:, 66 * k + 24 : 66 * k + 44].max() > 200 for k in range(9))
    # Texts above neighbouring columns are apart.
    assert all(set(words[:, 66 * k - 1 : 66 * k + 3].flatten()) == {96} for k in range(1, 9))
    with Image.open(tmp_path / "grid.png") as grid:
        whole = np.array(grid)
    for k in range(3):
        assert np.array_equal(last[66 * k + 2 :][:64, 2:66], whole[2:66, 66 * k + 2 :][:, :64])
    for name in ("way.gif", "way.webp"):
        done(*ask, tmp_path / name)
        with Image.open(tmp_path / name) as moving:
            assert moving.n_frames == 17
            frames = [np.array(frame.convert("L")) for frame in ImageSequence.Iterator(moving)]
        assert np.abs(frames[-1].astype(int) - whole).max() <= 1
        assert np.abs(frames[0].astype(int) - whole).max() > 20


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--trace", "a.gif", "--format", "png"], "`--trace` goes with a grid"),
        (["--preview", "-o", "a.npz"], "`--preview` goes with a grid"),
        (["--scale", 2, "-o", "a.npz"], "`--scale` goes with a grid"),
        (["--no-headings", "--format", "npz"], "`--no-headings` goes with a grid"),
        (["--trace", "a.jpg"], "`--trace` writes a `.png`, `.gif` or `.webp` file, not `a.jpg`"),
        (["--columns", 2, "--format", "png"], "`--columns` goes with a grid"),
        (["--trace", "a.gif", "--best-of", 2], "draws several of each"),
        (["--sampler", "ascent", "--noise", 0.1], "`noise` belongs to the sampler `sgld`"),
        (["--interpolate", 1, 2, "--class", 3], "`--class` would change nothing"),
    ],
)
def test_options_that_would_do_nothing(more: list[object], words: str) -> None:
    save_run("jeat", method="jeat")
    refused(here("sample", "jeat", "-n", 2, "--steps", 1, *more), 2, words)


def test_pictures_by_the_command(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    done("sample", "jeat", "-n", 1, "--steps", 0, "--format", "png", "-o", tmp_path / "one")
    Image.new("L", (8, 8), 255).save(tmp_path / "mask.png")
    source = tmp_path / "one" / "000000.png"
    ask = ("sample", "jeat", "--steps", 2, "--json")
    found = json.loads(done(*ask, "--from", source, "--class", 4, "--class", 5))
    assert Path(found["outputs"]["images"]).name == "000000-4-5-seed0.png"
    assert len(found["distance"]) == found["n"] == 2
    with Image.open(found["outputs"]["images"]) as grid:
        assert grid.size == (3 * 66 + 2, HEADING + 66 + 2)
    again = json.loads(done(*ask, "--class", 3, "--class", 5, "--class", 3, "-n", 6))
    with Image.open(again["outputs"]["images"]) as grid:
        assert grid.size == (3 * 66 + 2, HEADING + 2 * 66 + 2)
    filled = json.loads(
        done(*ask, "--inpaint", source, "--mask", tmp_path / "mask.png", "--class", 2, "-n", 3)
    )
    assert filled["labels"] == [2, 2, 2]
    numbered = json.loads(done(*ask, "--from", 17, "--class", 4))
    assert Path(numbered["outputs"]["images"]).name == "test-17-4-seed0.png"
    refused(here(*ask, "--from", 397), 2, "digits has no test image 397", "from 0 to 396")
    refused(here(*ask, "--from", "./17"), 2, "'./17' does not exist")
    way = json.loads(done(*ask, "--interpolate", 0, 9))
    assert Path(way["outputs"]["images"]).name == "0-to-9-seed0.png"
    assert way["labels"] == [0] * 4 + [9] * 4


def test_a_preview_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jeatcli.cli import preview

    picture = Image.new("RGB", (200, 10), (1, 2, 3))
    preview.show(picture)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(preview, "is_terminal", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    preview.show(picture)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.count("\u2580") for line in lines] == [40]
    assert os.environ["COLUMNS"] == "40"


def test_grids_have_their_classes_above_them(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    ask = ("sample", "jeat", "--steps", 0, "--class", 3, "--class", 8, "-n", 100, "-o")
    for more, columns, heading in (
        ((), 10, HEADING),
        (("--columns", 4), 4, HEADING),
        (("--columns", 5), 5, 0),
        (("--no-headings",), 10, 0),
    ):
        done(*ask, tmp_path / "grid.png", *more)
        rows = -(-100 // columns)
        with Image.open(tmp_path / "grid.png") as grid:
            assert grid.size == (66 * columns + 2, heading + 66 * rows + 2)
            pixels = np.array(grid)
        first = pixels[heading + 2 : heading + 66, 2:66]
        assert len(np.unique(first)) > 20
        if heading:
            strip = pixels[:heading]
            # White letters in the middle of each column, and nothing at its edges.
            assert all(strip[:, 66 * k + 24 : 66 * k + 44].max() > 200 for k in range(columns))
            assert set(strip[:, :20].flatten().tolist()) == {96}


@pytest.mark.parametrize(
    ("more", "size"),
    [
        (("-n", 64, "--scale", 1000), "64 images of 8,000x8,000 pixels would take 4 GB"),
        (("-n", 2, "--scale", 700, "--trace", "t.gif"), "66 images of 5,600x5,600 pixels"),
    ],
)
def test_a_picture_beyond_the_memory_is_refused_before_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[object, ...], size: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_run("jeat", method="jeat")
    monkeypatch.setattr("jeatcli.sampling.plan.SamplingPlan.draw", None)
    refused(here("sample", "jeat", "-o", "x.png", *more), 2, size, "lower `--scale`")
