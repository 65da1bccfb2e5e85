"""A full disk is told, and loses nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

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
from helpers.disks import disk_of, only_for

from jeatcli.checkpoints.results import read_results
from jeatcli.runtime import files

resource = pytest.importorskip("resource", reason="limits files to play a full disk")
LATEST = "digits-jeat-small"


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
        full.setattr(files, "replacing", only_for("results.json", "figure.svg"))
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
        full.setattr(files, "replacing", only_for("results.json"))
        said = here(*ask, "-o", "page.html", "--json")
    assert said.exit_code == 1
    assert "Warning: cannot write `near.png`: No space left on device" in said.stderr
    assert "Error: cannot write `page.html`: No space left on device" in said.stderr
    found = json.loads(said.stdout)
    assert found["outputs"] == {}
    assert found["neighbours"]["picture"] is None
    assert found["neighbours"]["median"] > 0
    with monkeypatch.context() as full:
        full.setattr(files, "replacing", only_for("results.json", "page.html"))
        said = here(*ask, "-o", "page.html")
    assert said.exit_code == 1
    assert "Error: cannot write `near.png`\nHint: see the warning above" in said.stderr
    assert "median distance to the nearest training image" in said.stdout
    assert "(between training images: " in said.stdout
    assert "copies of training images" in said.stdout
    assert "<img" not in (tmp_path / "page.html").read_text()


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
        full.setattr(files, "replacing", only_for("results.json", "grid.png"))
        said = here(*ask, "--json")
    assert said.exit_code == 1
    assert "Error: cannot write `trace.gif`: No space left on device" in said.stderr
    assert json.loads(said.stdout)["outputs"] == {"images": "grid.png"}
    assert read_results(home / LATEST)["sample"][-1]["n"] == 2
    said = here(*ask, "--json")
    assert "trace.gif" in json.loads(said.stdout)["outputs"]["trace"]
    assert "descent in `trace.gif`" in said.stderr


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
