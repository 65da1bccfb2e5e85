"""Places that cannot be written are told, and lose nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import (
    STANDARD,
    here,
    refused,
    untouched,
)
from helpers.disks import only_for

from jeatcli.checkpoints.results import read_results
from jeatcli.robustness import compare
from jeatcli.runtime import files

LATEST = "digits-jeat-small"

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


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", LATEST, "--calibration"],
        ["score", LATEST, "--features", "standard", "-n", "60", "--steps", "1"],
        ["attack", LATEST, "-n", "4", "--attack", "fgsm"],
        ["attack", LATEST, "-n", "4", "--attack", "fgsm", "-o", "x.json"],
    ],
    ids=" ".join,
)
def test_a_run_that_may_not_be_written_keeps_no_result(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    run, access = home / LATEST, os.access
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != run and bool(access(path, mode))
    )
    with untouched(run):
        said = here(*arguments, "--json")
    assert said.exit_code == 0, said.stderr
    text = f"no permission to write in `{run}`: the result is not kept with the run"
    assert said.stderr.count(text) == 1
    assert text in [flag["text"] for flag in json.loads(said.stdout)["warnings"]]


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
        full.setattr(files, "replacing", only_for(*room))
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
