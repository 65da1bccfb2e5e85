"""The README keeps its promises: its commands are those of CI, its links and options exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.documents import PAGES, ROOT, commands

from jeatcli.cli import main


def test_ci_runs_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = 'pip install -e ".[test]" && python -m pytest -n auto'
    assert f"```sh\n{command}\n```" in readme
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one_that_jeat_understands(page: Path) -> None:
    for _, verb, *words in commands(page):
        command = main if verb[0] == "-" else main.get_command(click.Context(main), verb)
        assert command is not None, verb
        options = command.params
        flags = {flag for one in options for flag in (*one.opts, *one.secondary_opts)}
        for word in words:
            if word.startswith("-") and not re.fullmatch(r"-[\d.]+", word):
                assert word.partition("=")[0] in flags, f"jeat {verb} {word}"


def test_the_version_is_one() -> None:
    printed = CliRunner().invoke(main, ["--version"]).output.split()[1]
    assert f'version = "{printed}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {printed}" in (ROOT / "CITATION.cff").read_text()
