"""The pages of docs/ that are made of the code follow it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from helpers.documents import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / "docs").glob("generate_*.py"))


@pytest.fixture(autouse=True)
def docs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_pages_follow_the_code(name: str) -> None:
    for path, text in importlib.import_module(name).pages().items():
        assert path.read_text(encoding="utf-8") == text, "run `make pages`"


def test_in_python_only_tuples_take_several_values() -> None:
    page = importlib.import_module("generate_python")
    rows = dict(
        line.split(" | ", 1) for line in page.settings("attack").splitlines() if "| `" in line
    )
    assert "repeatable" in rows["| `attacks`"]
    assert "repeatable" not in rows["| `eps`"] + rows["| `norm`"]


def test_make_runs_every_script() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = next(line for line in text.splitlines() if line.startswith("PAGES := "))
    assert sorted(f"generate_{name}" for name in listed.split()[2:]) == SCRIPTS


def test_a_page_that_differs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    update = importlib.import_module("generated").update
    pages = {tmp_path / "one.md": "one", tmp_path / "two.md": "two"}
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert update(pages) == 0
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert update(pages) == 0
    (tmp_path / "two.md").write_text("changed")
    assert update(pages) == 1
    assert "two.md differs" in capsys.readouterr().err
    (tmp_path / "one.md").unlink()
    assert update(pages) == 1
    assert not (tmp_path / "one.md").exists()
