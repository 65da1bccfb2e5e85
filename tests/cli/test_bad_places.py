"""Places that cannot be written and full disks are told, and lose nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import (
    EXECUTABLE,
    STANDARD,
    done,
    environment,
    here,
    refused,
    stopped_after,
    untouched,
)

from jeatcli.checkpoints.results import read_results
from jeatcli.robustness import compare
from jeatcli.runtime import files

resource = pytest.importorskip("resource", reason="limits files to play a full disk")
LATEST = "digits-jeat-small"


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as a full disk would."""
    former, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (former, hard))


OUTPUTS = [
    [*STANDARD, "-o", "file/run"],
    [*STANDARD, "-o", "./file"],
    ["sample", "-n", 2, "--steps", 1, "-o", "file/grid.png"],
    ["sample", "-n", 2, "--steps", 1, "-o", "file/arrays.npz"],
    ["sample", "-n", 2, "--steps", 1, "--format", "png", "-o", "file/deeper/images"],
    ["landscape", "--grid", 3, "-o", "file/deeper/plane.pdf"],
]


@pytest.mark.parametrize("arguments", OUTPUTS, ids=lambda each: f"{each[0]} {each[-1]}")
def test_a_place_below_a_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("precious")
    with untouched(tmp_path):
        said = here(*arguments)
    refused(said, 1, "Error: cannot write `", "file` is a file", "Hint: name another place")


@pytest.mark.parametrize("arguments", OUTPUTS, ids=lambda each: f"{each[0]} {each[-1]}")
def test_a_place_without_permission(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """For root, who may write anywhere, the answer of the system is put in its mouth."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda *asked: False)
    with untouched(tmp_path):
        said = here(*arguments)
    refused(said, 1, "Error: cannot write `", "no permission in `", "Hint: name another place")


def test_a_working_directory_that_is_gone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    refused(here("attack"), 2, "the working directory is gone", "change to")


def test_a_directory_in_the_place_of_a_picture(home: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.png").mkdir()
    (home / LATEST / "landscape.png").mkdir()
    (home / LATEST / "samples").write_text("precious")
    with untouched(tmp_path):
        refused(here("sample", "-n", 2), 1, f"{LATEST}/samples` is a file")
        refused(here("landscape", "--grid", 3), 1, "landscape.png`: it is a directory")


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_an_attack_whose_record_cannot_be_written_is_shown_and_fails(
    home: Path, quiet: tuple[str, ...]
) -> None:
    """The state stays until the record is written: the same command then writes it at once."""
    (home / LATEST / "attack.json").mkdir()
    said = here("attack", "-n", 3, "--steps", 1, "--json", *quiet)
    assert said.exit_code == 1
    assert json.loads(said.stdout)["n"] == 3
    assert "Error: cannot write `" in said.stderr
    (home / LATEST / "attack.json").rmdir()
    again = here("attack", "-n", 3, "--steps", 1)
    assert again.exit_code == 0
    assert "resuming the attack" in again.stderr
    assert not list((home / LATEST).glob("attack-*"))


def test_attacked_images_that_cannot_be_written_lose_no_result(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state stays until they are: another place needs no other attack."""
    monkeypatch.chdir(tmp_path)
    ask = ("attack", "-n", 3, "--steps", 1)
    with monkeypatch.context() as full:
        room = ("results.json", "attack.json", "progress.json")
        full.setattr(files, "replacing", _replacing_only(*room))
        said = here(*ask, "--save", "x.safetensors", "-o", "page.html", "--json")
    assert said.exit_code == 1
    assert "Error: cannot write `x.safetensors`: No space left on device" in said.stderr
    found = json.loads(said.stdout)
    assert found["n"] == 3
    assert found["outputs"] == {"record": str(home / LATEST / "attack.json")}
    assert read_results(home / LATEST)["attack"][-1]["robust"] == found["robust"]
    again = here(*ask, "--save", "y.safetensors")
    assert again.exit_code == 0
    assert "resuming the attack" in again.stderr
    assert (tmp_path / "y.safetensors").is_file()
    assert not list((home / LATEST).glob("attack-*"))


def test_a_record_that_cannot_be_written_keeps_no_other_from_being_written(home: Path) -> None:
    (home / "standard" / "attack.json").mkdir()
    said = here("attack", "standard", LATEST, "-n", 3, "--steps", 1, "--json")
    assert said.exit_code == 1
    assert "Error: cannot write `" in said.stderr
    records = [found["outputs"] for found in json.loads(said.stdout)["results"]]
    assert records == [{}, {"record": str(home / LATEST / "attack.json")}]
    assert json.loads((home / LATEST / "attack.json").read_text())["n"] == 3


def test_a_run_that_is_moved_while_it_is_attacked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old name is left free, and the result is shown."""
    measure = compare.run_evaluation

    def moved(*arguments: Any) -> Any:
        (home / "standard").rename(home / "plain")
        return measure(*arguments)

    monkeypatch.setattr(compare, "run_evaluation", moved)
    said = here("attack", "standard", "-n", 3, "--steps", 1, "--json")
    assert said.exit_code == 1
    assert json.loads(said.stdout)["n"] == 3
    assert "standard/model.safetensors` was moved, removed or started over meanwhile" in said.stderr
    assert "Hint: attack it again where it is now" in said.stderr
    assert not (home / "standard").exists()
    assert not list((home / "plain").glob("attack*"))


def test_a_run_that_is_started_over_while_it_is_attacked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one gets no file that is of the weights before."""
    measure = compare.run_evaluation

    def started_over(*arguments: Any) -> Any:
        (home / "standard").rename(home / "standard~1")
        shutil.copytree(home / "standard~1", home / "standard")
        os.utime(home / "standard" / "config.toml")
        return measure(*arguments)

    monkeypatch.setattr(compare, "run_evaluation", started_over)
    said = here("attack", "standard", "-n", 3, "--steps", 1, "--json")
    assert said.exit_code == 1
    assert json.loads(said.stdout)["outputs"] == {}
    assert said.stderr.count("started over meanwhile") == 1
    assert not list((home / "standard").glob("attack*"))
    assert "attack" not in read_results(home / "standard")


# a full disk


def test_a_full_disk_while_training(home: Path) -> None:
    """A file may have a megabyte: the state, of five, cannot be written."""
    run = home / "standard"
    command = [str(EXECUTABLE), *STANDARD, "-o", "standard", "--epochs", "2", "--force"]
    said = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)),
    )
    refused(said, 1, f"cannot write `{run / 'state.safetensors'}`", "free some space and run it")
    assert sorted(path.name for path in run.iterdir()) == [".lock", "config.toml"]
    assert (home / "standard~1" / "model.safetensors").is_file()
    again = here(*command[1:-1])
    assert (again.exit_code, again.stdout) == (0, f"{run}\n"), again.stderr


def test_a_full_disk_leaves_the_last_state_whole(home: Path) -> None:
    run = home / "standard"
    straight = {name: (run / name).read_bytes() for name in ("model.safetensors", "config.toml")}
    shutil.rmtree(run)
    with stopped_after(2):
        refused(here(*STANDARD, "-o", "standard"), 130, "stopped in epoch 1 of 1")
    state = (run / "state.safetensors").read_bytes()
    with disk_of(10**6):
        refused(here(*STANDARD, "-o", "standard"), 1, "cannot write `", "free some space")
    assert (run / "state.safetensors").read_bytes() == state
    assert sorted(path.name for path in run.iterdir()) == [
        *(".lock", "config.toml", "metrics.csv", "metrics.jsonl"),
        *("state-before.safetensors", "state.safetensors"),
    ]
    assert here(*STANDARD, "-o", "standard").exit_code == 0
    for name, content in straight.items():
        assert (run / name).read_bytes() == content
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_while_writing_the_log(home: Path) -> None:
    run = home / "new"
    run.mkdir()
    (run / "config.toml").write_text(here(*STANDARD, "--dry-run").stdout)
    (run / "metrics.jsonl").symlink_to("/dev/full")
    refused(here(*STANDARD, "-o", "new"), 1, "metrics.jsonl`: No space left", "free some space")
    # What the settings left open is measured, and holds from then on.
    measured = tomllib.loads((run / "config.toml").read_text())
    assert (measured["kernel"], measured["compile"]) == ("library", False)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").write_text('{"epoch": 1, "st')
    assert here(*STANDARD, "-o", "new").exit_code == 0
    assert json.loads((run / "metrics.jsonl").read_text())["epoch"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["landscape", "--grid", 3, "-o", "plane.png"],
        ["landscape", "--grid", 3, "-o", "plane.pdf"],
        ["landscape", "--grid", 3, "-o", "plane.svg"],
        ["landscape", "--grid", 3, "-o", "plane.html"],
        ["score", "--calibration", "-n", 20, "-o", "score.html"],
        ["score", "-n", 20, "--calibration", "bins.png"],
        ["score", "--features", "standard", "-n", 20, "-o", "score.html"],
    ],
    ids=lambda each: f"{each[0]} {each[-1]}",
)
def test_numbers_whose_picture_cannot_be_written_are_shown_and_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """A score takes hours; the command fails once they are safe."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(files, "replacing", _replacing_only("results.json", "figure.svg"))
        said = here(*arguments, "--json")
    assert said.exit_code == 1
    found = json.loads(said.stdout)
    assert found["outputs"] == {}
    assert f"Error: cannot write `{arguments[-1]}`: No space left on device" in said.stderr
    assert "Hint: free some space and run it again" in said.stderr
    kept = read_results(home / LATEST)[arguments[0]][-1]
    assert kept["seconds"] == found["seconds"]
    assert not Path(arguments[-1]).exists()
    done(*arguments)
    assert Path(arguments[-1]).exists()


def test_a_picture_of_neighbours_that_cannot_be_written_loses_no_score(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ask = ("score", "-n", 20, "--steps", 1, "--features", "standard", "--neighbours", "near.png")
    with monkeypatch.context() as full:
        full.setattr(files, "replacing", _replacing_only("results.json"))
        said = here(*ask, "-o", "page.html", "--json")
    assert said.exit_code == 1
    assert "Warning: cannot write `near.png`: No space left on device" in said.stderr
    assert "Error: cannot write `page.html`: No space left on device" in said.stderr
    found = json.loads(said.stdout)
    assert found["outputs"] == {}
    assert found["neighbours"]["picture"] is None
    assert found["neighbours"]["median"] > 0
    with monkeypatch.context() as full:
        full.setattr(files, "replacing", _replacing_only("results.json", "page.html"))
        said = here(*ask, "-o", "page.html")
    assert said.exit_code == 1
    assert "Error: cannot write `near.png`\nHint: see the warning above" in said.stderr
    assert "median distance to the nearest training image" in said.stdout
    assert "(between training images: " in said.stdout
    assert "copies of training images" in said.stdout
    assert "<img" not in (tmp_path / "page.html").read_text()


def _replacing_only(*names: str) -> Callable[..., AbstractContextManager[Path]]:
    """Return `files.replacing` for a disk that has room for these files alone."""
    replacing = files.replacing

    @contextmanager
    def where_there_is_room(path: Path, *elsewhere: str) -> Iterator[Path]:
        if path.name not in (*names, "README.md"):
            raise files.unwritable(path, os.strerror(errno.ENOSPC), *elsewhere)
        with replacing(path, *elsewhere) as beside:
            yield beside

    return where_there_is_room


def test_a_full_disk_while_saving_a_grid(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = ("sample", "-n", 64, "--steps", 1, "-o", "grid.png")
    done(*grid, "--seed", 1)
    with untouched(tmp_path), disk_of(500):
        said = here(*grid)
    refused(said, 1, "cannot write `grid.png`", "Hint: free some space and run it again")


def test_a_trace_that_cannot_be_written_loses_no_grid(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ask = ("sample", "-n", 2, "--steps", 1, "-o", "grid.png", "--trace", "trace.gif")
    with monkeypatch.context() as full:
        full.setattr(files, "replacing", _replacing_only("results.json", "grid.png"))
        said = here(*ask, "--json")
    assert said.exit_code == 1
    assert "Error: cannot write `trace.gif`: No space left on device" in said.stderr
    assert json.loads(said.stdout)["outputs"] == {"images": "grid.png"}
    assert read_results(home / LATEST)["sample"][-1]["n"] == 2
    assert "trace.gif" in json.loads(done(*ask, "--json"))["outputs"]["trace"]


def test_a_full_disk_keeps_the_images_that_are_drawn(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "arrays.npz"
    done("sample", "-n", 2, "--steps", 1, "--seed", 1, "-o", "arrays.npz")
    yesterday = archive.read_bytes()
    ask = ("sample", "-n", 64, "--steps", 1, "-o", "arrays.npz")
    with disk_of(500):
        said = here(*ask)
    refused(said, 1, "cannot write `arrays.npz`", "Hint: free some space and run it again")
    assert archive.read_bytes() == yesterday
    assert here(*ask).exit_code == 0
    assert zipfile.is_zipfile(archive)
    assert not (tmp_path / ".arrays.npz.part").exists()
