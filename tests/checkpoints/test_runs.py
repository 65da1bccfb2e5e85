"""Names and paths of runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import STANDARD, done, here, one, refused

from jeatcli.checkpoints import listing, runs
from jeatcli.errors import UsageProblem


@pytest.mark.parametrize("name", ["lr0.01", "sweep-0.001-0", "v1.2.3", "eps8.", ".hidden", "a b"])
def test_dots_are_part_of_a_name(name: str, home: Path) -> None:
    assert runs.place(name) == home / name


@pytest.mark.parametrize(
    "path", ["./lr0.01", "a/b", "model.safetensors", "theirs.PT", "theirs.th", ".", ".."]
)
def test_a_slash_or_the_ending_of_a_checkpoint_makes_a_path(path: str) -> None:
    assert runs.place(path) == Path(path).absolute()


def test_home_directories_are_paths_and_those_of_nobody_are_told() -> None:
    assert runs.place("~/run") == Path.home() / "run"
    assert runs.place("~") == Path.home()
    with pytest.raises(UsageProblem, match="~no-such-user"):
        runs.place("~no-such-user/run")
    refused(here(*STANDARD, "-o", "~no-such-user/run"), 2, "`~no-such-user`")


def test_a_sweep_is_found_from_anywhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said = here(*STANDARD, "-o", "lr0.01")
    assert said.stdout == f"{home / 'lr0.01'}\n"
    assert "jeat attack lr0.01" in said.stderr
    assert not list((tmp_path / "here").iterdir())
    monkeypatch.chdir(tmp_path)
    assert str(home / "lr0.01") in done(*STANDARD, "-o", "lr0.01")
    assert runs.resolve("lr0.01") == home / "lr0.01" / runs.MODEL_FILE


def test_a_name_that_is_a_path_here_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr0.01").mkdir()
    refused(here("attack", "lr0.01"), 1, "no run `lr0.01`", "`./lr0.01`")


def test_the_best_epoch_is_named_as_in_tables(home: Path) -> None:
    refused(here("attack", "best"), 1, "there is no run `best`")
    refused(here("attack", "standard/best"), 1, "there is no run or checkpoint at")
    best = home / "standard" / runs.BEST_FILE
    shutil.copy(home / "standard" / runs.MODEL_FILE, best)
    few = ("-n", 4, "--attack", "fgsm", "--device", "cpu")
    for run in ("standard/best", home / "standard" / "best"):
        found = one("attack", run, *few)
        assert (found["run"], found["path"]) == ("standard/best", str(best))


def test_a_run_that_is_removed_while_the_runs_are_listed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another terminal: it is passed over, and the others are found."""
    every = Path.glob

    def with_one_that_is_gone(folder: Path, pattern: str) -> list[Path]:
        return [*every(folder, pattern), folder / "gone" / runs.MODEL_FILE]

    before = runs.names()
    monkeypatch.setattr(Path, "glob", with_one_that_is_gone)
    assert before
    assert runs.names() == before


def test_a_run_that_is_removed_while_it_is_read_has_no_row(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = listing.read_log

    def removing(path: Path) -> list[Any]:
        if path.parent.name == "standard":
            path.parent.rename(home / "plain~1")
        return read(path)

    before = [run.run for run in listing.list_runs()]
    monkeypatch.setattr(listing, "read_log", removing)
    after = [run.run for run in listing.list_runs()]
    (home / "plain~1").rename(home / "standard")
    assert set(before) - set(after) == {"standard"}
