"""Modules that `JEAT_PLUGINS` names add rows to the tables, for the command too."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from helpers.cli import QUICK, done, here, one, refused
from helpers.documents import ROOT, blocks, lines
from helpers.runs import save_run

from jeatcli.core.models import ARCHITECTURES
from jeatcli.methods import METHODS
from jeatcli.robustness.attacks import ATTACKS
from jeatcli.sampling.settings import INITIALIZERS
from jeatcli.scoring.settings import METRICS

PAGE = ROOT / "docs" / "extending.md"
MINE = "\n".join(block for block in blocks(PAGE, "python") if '"mine:' in block)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Restores the tables and the import path, and is the working directory."""
    for table in (ARCHITECTURES, ATTACKS, INITIALIZERS, METHODS, METRICS):
        monkeypatch.setattr(table, "_entries", dict(table))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["mine.py", "in depth/mine.py"])
def test_the_plugin_of_the_page_trains_and_attacks(home: Path, place: Path, file: str) -> None:
    path = place / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(MINE)
    (path.parent / "click.py").write_text("raise AssertionError")  # does not hide the installed one
    save_run("flat", gain=2.0)
    refused(here("attack", "flat", "--attack", "fog"), 2, "unknown attack `fog`")
    written = [line for line in lines(PAGE) if line.startswith("JEAT_PLUGINS=mine.py jeat ")]
    train, attack = (shlex.split(line)[2:] for line in written)
    for named in (file, ", mine,") if path.parent == place else (file,):
        mine = {"JEAT_PLUGINS": named}
        found = one(*attack, "-n", 10, **mine)
        assert 0 < found["robust"] <= found["clean"]
        assert found["per_attack"]["fog"]["steps"] == 10
    assert "CE(x^) and a penalty on E(x^)" in done("train", "--help", **mine)
    done(*train[:-1], "mine", *QUICK[2:], "--max-steps", 1, **mine)
    done(*train[:-1], "wide", "--arch", "hidden-16", *QUICK[2:], "--max-steps", 1, **mine)
    assert one("attack", "wide", "-n", 4, "--steps", 1, **mine)["n"] == 4
    few = ("-n", 20, "--steps", 1, "--kid-subset-size", 10, "--kid-subsets", 2, "--splits", 2)
    found = one("score", "wide", "--features", "flat", *few, "--metric", "mean-gap", **mine)
    assert found["metrics"]["mean_gap"] > 0
    grey = one("sample", "flat", "--init", "grey", "--steps", 1, "-n", 1, **mine)
    assert grey["settings"]["init"] == "grey"
    METHODS.remove("flat")
    ATTACKS.remove("fog")
    INITIALIZERS.remove("grey")
    ARCHITECTURES.remove("hidden-W")
    METRICS.remove("mean-gap")
    refused(here("attack", "wide"), 1, "unknown architecture `hidden-16`", "in `JEAT_PLUGINS`")
    assert one("attack", "mine", "-n", 4, "--steps", 1)["method"] == "flat"  # without the plugin


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (None, "absent", "No module named 'absent'"),
        ("import nothing_such", "broken.py", "No module named 'nothing_such'"),
        ("1 / 0", "divides", "ZeroDivisionError"),
        ("import sys; sys.exit(3)", "ends.py", "SystemExit: 3"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(
    place: Path, text: str | None, name: str, words: str
) -> None:
    if text is not None:
        (place / f"{name.removesuffix('.py')}.py").write_text(text)
    said = here("attack", JEAT_PLUGINS=name)
    refused(said, 2, f"`{name}` of `JEAT_PLUGINS` cannot be imported: ", words)


def test_a_plugin_of_the_name_of_another_module_is_refused(place: Path) -> None:
    (place / "json.py").write_text(MINE)
    said = here("attack", JEAT_PLUGINS="json.py")
    refused(said, 2, "is not what Python imports as `json`", "rename the file")
