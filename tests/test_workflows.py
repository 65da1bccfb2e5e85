"""The workflows: actions are pinned, and what is published is what was checked."""

from __future__ import annotations

import re
import tomllib

import pytest
from helpers.documents import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(workflow) -> None:
    text = workflow.read_text(encoding="utf-8")
    uses = re.findall(r"uses: *(.*)", text)
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    assert "permissions:\n  contents: read\n" in text
    assert "secrets." not in text
    for part in text.split("actions/checkout@")[1:]:
        assert "persist-credentials: false" in part.partition("- uses")[0]


def test_one_action_has_one_commit() -> None:
    texts = [workflow.read_text(encoding="utf-8") for workflow in WORKFLOWS]
    pins = re.findall(r"uses: *([\w/-]+)@(\w+)", "".join(texts))
    assert len(dict(pins)) == len(set(pins))


def test_publishing_needs_no_token_and_a_checked_build() -> None:
    text = (ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    assert text.index("twine check --strict") < text.index("id-token: write")
    assert text.count("id-token: write") == 1
    assert "needs: build" in text


def test_the_versions_of_python_that_are_named_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    tested = re.findall(r"\d\.\d+", re.findall(r"python: \[(.*)\]", text)[0])
    assert named == tested[: len(named)]
    assert {"3.12", "3.13"} <= {*named}
    assert project["requires-python"] == f">={named[0]}"


def test_the_source_archive_has_what_the_tests_read() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    archived = {*build["build"]["targets"]["sdist"]["include"], "pyproject.toml", "README.md"}
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert {*re.findall(r'ROOT / "([\w.-]+)"', tests)} <= archived


def test_issues_ask_for_the_machine() -> None:
    forms = ROOT / ".github" / "ISSUE_TEMPLATE"
    for name in ("bug.yml", "number.yml"):
        assert "`jeat --info`" in (forms / name).read_text(encoding="utf-8")


def test_hooks_have_the_tools_of_the_project() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert len(set(re.findall(r"ruff==[\d.]+", hooks))) == 1
