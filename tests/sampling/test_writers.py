"""Images as files: what is there is not drawn again, and a drawing goes on where it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import EXECUTABLE, done, environment, here, jeat, pixels, refused
from helpers.runs import load_run, save_run
from PIL import Image, ImageSequence

from jeatcli.checkpoints.model import Model
from jeatcli.errors import Interrupted, JeatError
from jeatcli.runtime.files import runs_dir
from jeatcli.sampling import writers
from jeatcli.sampling.plan import SamplingPlan
from jeatcli.sampling.sample import prepare

# Height of the classes above a grid, in pixels.
HEADING = 22
ASK = ("sample", "jeat", "-n", 40, "--steps", 30, "-b", 4)


@pytest.fixture
def model() -> Model:
    return load_run("jeat", method="jeat")


@contextmanager
def stopped_after(batches: int) -> Iterator[None]:
    """Interrupt the drawing in the batch after so many."""
    draw, drawn = SamplingPlan.draw, []

    def counted(self: SamplingPlan, *given: Any) -> torch.Tensor:
        if len(drawn) == batches:
            raise KeyboardInterrupt
        drawn.append(given)
        return draw(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SamplingPlan, "draw", counted)
        yield


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_is_filled_where_it_was_left(model: Model, tmp_path: Path) -> None:
    plan = prepare(model, num=10, steps=3, batch_size=4)
    writers.save_folder(plan, tmp_path / "whole")
    with stopped_after(1), pytest.raises(Interrupted):
        writers.save_folder(plan, tmp_path / "part")
    first = contents(tmp_path / "part")
    assert len(first) == 4
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "part").iterdir()}
    writers.save_folder(plan, tmp_path / "part")
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())


def test_more_images_are_added_and_other_ones_replace(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    writers.save_folder(prepare(model, num=4, steps=3), folder)
    few = contents(folder)
    writers.save_folder(prepare(model, num=8, steps=3), folder)
    more = contents(folder)
    assert len(more) == 8
    assert {name: more[name] for name in few} == few
    writers.save_folder(prepare(model, num=8, steps=3, seed=1), folder)
    assert all(contents(folder)[name] != more[name] for name in more)
    with Image.open(folder / "000003.png") as image:
        about = json.loads(image.info["jeat"])
    assert (about["seed"], about["image"], about["class"]) == (1, 3, "3")
    # Other weights under the same name draw anew.
    next(model.classifier.parameters()).mul_(1.5)
    before = contents(folder)
    writers.save_folder(prepare(model, num=8, steps=3, seed=1), folder)
    assert contents(folder)["000000.png"] != before["000000.png"]


def test_an_archive_goes_on_where_it_was_left(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = prepare(model, num=10, steps=3, batch_size=4)
    writers.save_npz(plan, tmp_path / "whole.npz")
    with stopped_after(2), pytest.raises(Interrupted):
        writers.save_npz(plan, tmp_path / "part.npz")
    assert [path.name for path in tmp_path.glob(".*")] == [".part.npz.part"]
    drawn: list[int] = []
    draw = SamplingPlan.draw

    def counted(self: SamplingPlan, index: torch.Tensor, *rest: Any) -> torch.Tensor:
        drawn.extend(index.tolist())
        return draw(self, index, *rest)

    monkeypatch.setattr(SamplingPlan, "draw", counted)
    writers.save_npz(plan, tmp_path / "part.npz")
    assert drawn == [8, 9]
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "part.npz") as part:
        assert np.array_equal(whole["arr_0"], part["arr_0"])
        assert whole["arr_0"].shape == (10, 8, 8, 1)
        assert part["arr_1"].tolist() == list(range(10))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("num", [6, 14])
def test_a_part_serves_an_archive_of_another_number(model: Model, tmp_path: Path, num: int) -> None:
    with stopped_after(2), pytest.raises(Interrupted):
        writers.save_npz(prepare(model, num=10, steps=3, batch_size=4), tmp_path / "part.npz")
    plan = prepare(model, num=num, steps=3, batch_size=4)
    writers.save_npz(plan, tmp_path / "whole.npz")
    # Eight images are there: those of 6 are drawn, and two batches are left of 14.
    with stopped_after(2 if num == 14 else 0):
        writers.save_npz(plan, tmp_path / "part.npz")
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "part.npz") as part:
        assert np.array_equal(whole["arr_0"], part["arr_0"])
        assert np.array_equal(whole["arr_1"], part["arr_1"])
    assert not list(tmp_path.glob(".*"))


def test_an_unfinished_archive_keeps_its_name(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    plan, other = (prepare(model, num=10, steps=3, batch_size=4, seed=seed) for seed in (0, 1))
    assert writers.free_path(path, other) == path
    with stopped_after(2), pytest.raises(Interrupted):
        writers.save_npz(plan, path)
    assert writers.free_path(path, plan) == path
    assert writers.free_path(path, other) == tmp_path / "images-2.npz"


def test_a_part_of_another_drawing_is_not_used(model: Model, tmp_path: Path) -> None:
    beside = tmp_path / ".images.npz.part"
    beside.write_bytes(b'{"seed": 7}\n' + bytes(64 * 9))
    writers.save_npz(prepare(model, num=10, steps=1), tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz") as found:
        assert found["arr_0"].any((1, 2, 3)).all()


def test_a_killed_command_goes_on_to_the_same_images(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    ask = (*ASK, "--format", "png", "--device", "cpu", "-o")
    command = [EXECUTABLE, *map(str, ask), str(tmp_path / "killed")]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "killed" / "000007.png").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    left = [path.name for path in (tmp_path / "killed").glob("*.png")]
    assert 8 <= len(left) < 40
    again = jeat(*ask, tmp_path / "killed")
    assert "are in" in again.stderr
    done(*ask, tmp_path / "whole")
    there = {path.name: path.read_bytes() for path in (tmp_path / "killed").glob("*.png")}
    assert there == contents(tmp_path / "whole")


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
    from jeatcli.cli import terminal

    picture = Image.new("RGB", (200, 10), (1, 2, 3))
    terminal.show(picture)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(terminal, "is_terminal", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    terminal.show(picture)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.count("\u2580") for line in lines] == [40]
    assert os.environ["COLUMNS"] == "40"


def test_images_of_another_drawing_do_not_stay_beside_these(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    writers.save_folder(prepare(model, num=6, steps=3), folder)
    before = contents(folder)
    with pytest.raises(JeatError, match=r"000004\.png` is of another drawing"):
        writers.save_folder(prepare(model, num=4, steps=3, seed=1), folder)
    assert contents(folder) == before
    # Fewer of the same drawing are a part of what is there.
    writers.save_folder(prepare(model, num=4, steps=3), folder)
    assert contents(folder) == before


def test_images_of_another_class_do_not_stay_beside_these(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    writers.save_folder(prepare(model, num=6, steps=3, classes=["3"]), folder)
    before = contents(folder)
    for classes in (["5"], ["3", "5"], ["all"]):
        with pytest.raises(JeatError, match="is of another drawing"):
            writers.save_folder(prepare(model, num=4, steps=3, classes=classes), folder)
    writers.save_folder(prepare(model, num=4, steps=3, classes=["3"]), folder)
    writers.save_folder(prepare(model, num=4, steps=3, classes=[3]), folder)
    assert contents(folder) == before


def test_a_way_of_fewer_images_is_another_drawing(model: Model, tmp_path: Path) -> None:
    """Image k of a way of n stands at k / (n - 1)."""
    folder, again = tmp_path / "images", tmp_path / "again"
    ends = ("3", "8")
    writers.save_folder(prepare(model, num=4, steps=3, interpolate=ends), folder)
    with pytest.raises(JeatError, match="is of another drawing"):
        writers.save_folder(prepare(model, num=3, steps=3, interpolate=ends), folder)
    writers.save_folder(prepare(model, num=6, steps=3, interpolate=ends), folder)
    writers.save_folder(prepare(model, num=6, steps=3, interpolate=ends), again)
    assert all(
        np.array_equal(pixels(folder / name), pixels(again / name)) for name in contents(again)
    )


def test_an_archive_that_is_there_is_not_drawn_again(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "images.npz"
    writers.save_npz(prepare(model, num=6, steps=3), path)
    before = path.read_bytes()
    with stopped_after(0):
        writers.save_npz(prepare(model, num=6, steps=3), path)
    assert path.read_bytes() == before
    writers.save_npz(prepare(model, num=6, steps=3, seed=1), path)
    assert path.read_bytes() != before


def test_images_of_other_settings_keep_their_file(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    ask = ("sample", "jeat", "--steps", 1)
    for layout in ("grid", "png", "npz"):
        first, again, fewer, last = (
            Path(done(*ask, "--format", layout, *more).strip())
            for more in (("-n", 8), ("-n", 8), ("-n", 4, "--steps", 2), ("-n", 8, "--steps", 2))
        )
        assert again == first
        assert fewer.stem == f"{first.stem}-2"
        # More of one drawing go into its directory.
        assert last == (fewer if layout == "png" else fewer.with_stem(f"{first.stem}-3"))
        assert first.exists()
    assert len(list((runs_dir() / "jeat" / "samples").iterdir())) == 8


@pytest.mark.parametrize("cut", [1, 4, 12, 40])
def test_a_picture_that_was_cut_is_drawn_again(model: Model, tmp_path: Path, cut: int) -> None:
    plan = prepare(model, num=4, steps=3, batch_size=1)
    writers.save_folder(plan, tmp_path / "images")
    whole = contents(tmp_path / "images")
    short = tmp_path / "images" / "000002.png"
    short.write_bytes(short.read_bytes()[:-cut])
    writers.save_folder(plan, tmp_path / "images")
    assert contents(tmp_path / "images") == whole


def test_two_processes_at_once_write_one_archive(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    done(*ASK, "--device", "cpu", "-o", tmp_path / "alone.npz")
    command = [EXECUTABLE, *map(str, ASK), "--device", "cpu", "-o", str(tmp_path / "x.npz")]
    both = [subprocess.Popen(command, env=environment()) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert sorted(path.name for path in tmp_path.glob("*npz*")) == ["alone.npz", "x.npz"]
    assert not list(tmp_path.glob(".*.npz*"))
    with np.load(tmp_path / "x.npz") as ours, np.load(tmp_path / "alone.npz") as alone:
        assert np.array_equal(ours["arr_0"], alone["arr_0"])


def test_two_processes_at_once_fill_one_folder_in_turn(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    ask = (*ASK, "--format", "png", "--device", "cpu")
    done(*ask, "-o", tmp_path / "first")
    done(*ask, "--seed", 1, "-o", tmp_path / "second")
    command = [EXECUTABLE, *map(str, ask), "-o", str(tmp_path / "both")]
    others = [[*command, "--seed", str(seed)] for seed in (0, 1)]
    both = [subprocess.Popen(other, env=environment()) for other in others]
    assert [process.wait(120) for process in both] == [0, 0]
    known = [contents(tmp_path / name) for name in ("first", "second")]
    assert contents(tmp_path / "both") in known


def test_the_unfinished_archive_is_no_link(model: Model, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / ".images.npz.part").symlink_to(tmp_path / "theirs")
    with pytest.raises(JeatError, match="cannot write"):
        writers.save_npz(prepare(model, num=2, steps=1), tmp_path / "images.npz")
    assert (tmp_path / "theirs").read_text() == "kept"


@pytest.mark.parametrize("layout", ["png", "npz"])
def test_what_is_drawn_before_an_interrupt_is_kept(tmp_path: Path, layout: str) -> None:
    save_run("jeat", method="jeat")
    target = tmp_path / ("images.npz" if layout == "npz" else "images")
    ask = (*ASK, "--format", layout, "--device", "cpu", "-o", target)
    first = tmp_path / ".images.npz.part" if layout == "npz" else target / "000007.png"
    command = [EXECUTABLE, *map(str, ask)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        # Two batches: of an archive, so many bytes behind the line of its settings.
        while not first.exists() or (
            layout == "npz" and len(first.read_bytes().partition(b"\n")[2]) < 8 * 64
        ):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"images are saved for" in said
    assert b"the same command resumes from there" in said
    assert "already" in jeat(*ask).stderr


def test_an_interrupted_grid_says_what_goes_on(model: Model) -> None:
    with stopped_after(0):
        told = here("sample", "jeat", "-n", 2, "--steps", 1)
    refused(told, 130, "a grid is written when all its images are drawn")


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
