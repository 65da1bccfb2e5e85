"""Images as files: what is there is not drawn again, and a drawing goes on where it was killed."""

from __future__ import annotations

import errno
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
from helpers.forked import Forked
from helpers.runs import load_run, save_run
from PIL import Image

from jeatcli.checkpoints.model import Model
from jeatcli.errors import Interrupted, JeatError
from jeatcli.runtime.files import runs_dir
from jeatcli.sampling import writers
from jeatcli.sampling.plan import SamplingPlan
from jeatcli.sampling.sample import prepare

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


@pytest.mark.parametrize("part", [b'{"seed": 7}\n', b'{"see', b"[7]\n" + bytes(64 * 9), b""])
def test_a_part_without_images_is_not_used(model: Model, tmp_path: Path, part: bytes) -> None:
    (tmp_path / ".images.npz.part").write_bytes(part)
    writers.save_npz(prepare(model, num=10, steps=1), tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz") as found:
        assert found["arr_0"].any((1, 2, 3)).all()


def test_an_unfinished_drawing_of_other_settings_is_not_lost(model: Model, tmp_path: Path) -> None:
    path, beside = tmp_path / "images.npz", tmp_path / ".images.npz.part"
    plan = prepare(model, num=10, steps=3, batch_size=4)
    with stopped_after(2), pytest.raises(Interrupted):
        writers.save_npz(plan, path)
    drawn = beside.read_bytes()
    with pytest.raises(JeatError, match=r"unfinished drawing for .* has other settings") as refusal:
        writers.save_npz(prepare(model, num=10, steps=3, seed=1), path)
    assert str(beside) in str(refusal.value.hint)
    assert beside.read_bytes() == drawn
    with stopped_after(1):
        writers.save_npz(plan, path)
    assert not beside.exists()


def test_a_killed_command_goes_on_to_the_same_images(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    ask = (*ASK, "--format", "png", "--device", "cpu", "-o")
    process = Forked(*ask, tmp_path / "killed", env=environment())
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "000007.png").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=60)
    left = [path.name for path in (tmp_path / "killed").glob("*.png")]
    assert 8 <= len(left) < 40
    again = jeat(*ask, tmp_path / "killed")
    assert "are in" in again.stderr
    done(*ask, tmp_path / "whole")
    there = {path.name: path.read_bytes() for path in (tmp_path / "killed").glob("*.png")}
    assert there == contents(tmp_path / "whole")


def test_a_full_disk_leaves_no_empty_directory(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writers, "_write", full)
    monkeypatch.setattr(writers.pictures, "save_png", full)
    plan = prepare(model, num=4, steps=1)
    with pytest.raises(JeatError, match="No space left"):
        writers.save_npz(plan, tmp_path / "new" / "deep" / "x.npz")
    with pytest.raises(OSError, match="No space left"):
        writers.save_folder(plan, tmp_path / "images" / "deep")
    assert not list(tmp_path.glob("[in]*"))


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


def succeed(processes: list[Forked]) -> None:
    """Wait until all have succeeded."""
    for process in processes:
        heard = process.communicate(timeout=120)[1]
        assert process.returncode == 0, heard


def test_two_processes_at_once_write_one_archive(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    done(*ASK, "--device", "cpu", "-o", tmp_path / "alone.npz")
    command = (*ASK, "--device", "cpu", "-o", tmp_path / "x.npz")
    succeed([Forked(*command, env=environment()) for _ in range(2)])
    assert sorted(path.name for path in tmp_path.glob("*npz*")) == ["alone.npz", "x.npz"]
    assert not list(tmp_path.glob(".*.npz*"))
    with np.load(tmp_path / "x.npz") as ours, np.load(tmp_path / "alone.npz") as alone:
        assert np.array_equal(ours["arr_0"], alone["arr_0"])


def test_two_processes_at_once_fill_one_folder_in_turn(tmp_path: Path) -> None:
    save_run("jeat", method="jeat")
    ask = (*ASK, "--format", "png", "--device", "cpu")
    done(*ask, "-o", tmp_path / "first")
    done(*ask, "--seed", 1, "-o", tmp_path / "second")
    command = (*ask, "-o", tmp_path / "both", "--seed")
    succeed([Forked(*command, seed, env=environment()) for seed in (0, 1)])
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
