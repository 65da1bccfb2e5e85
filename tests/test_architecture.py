"""The rules of docs/house.md: rooms import downward, files and functions stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "jeatcli"
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
HEAVY = {"torch", "torchvision", "torch_fidelity", "matplotlib", "numpy", "PIL", "safetensors"}
# What `--help`, completion and `import jeatcli` load, besides the command line itself.
LIGHT = [
    *("__init__", "__main__", "errors", "settings", "catalogue"),
    *("core/threat", "core/models/__init__", "data/facts", "methods/__init__"),
    *("checkpoints/runs", "landscapes/__init__", "robustness/attacks/__init__"),
    *("runtime/files", "runtime/launch", "runtime/progress"),
    *(str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.glob("*/settings.py")),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def functions(file: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


def imported_at_the_top(file: Path) -> set[str]:
    """Return the first names of what a file imports when it is loaded."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_import_contracts_hold():
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_imports_go_in_a_circle():
    """Nor those inside functions, which are there for a quick start and hide no circle."""
    graph = grimp.build_graph("jeatcli", exclude_type_checking_imports=True, cache_dir=None)
    imported = {file: graph.find_modules_directly_imported_by(file) for file in graph.modules}
    TopologicalSorter(imported).prepare()  # raises CycleError, which names them


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_a_room_says_what_may_live_there_and_what_it_may_import(room):
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len(text.splitlines()) >= 2
    assert "import" in text


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_the_tests_have_the_rooms_of_the_package(room):
    assert any((ROOT / "tests" / room.name).glob("test_*.py"))


def test_files_of_tests_have_names_of_their_own():
    """Two of one name, in whatever folders, are not collected together."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert len({*names}) == len(names)


def test_no_test_imports_a_conftest():
    """There are several of that name: which is found depends on the folders asked for."""
    files = [*(ROOT / "tests").rglob("*.py")]
    assert not [file for file in files if "conftest" in imported_at_the_top(file)]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_and_functions_stay_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300
    assert "util" not in file.stem
    for function in functions(file):
        assert function.end_lineno is not None
        assert function.end_lineno - function.lineno < 60, function.name


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_signatures_can_be_read(file):
    for function in functions(file):
        taken = function.args
        if not function.name.startswith("_") and file.parent.name != "cli":
            count = len([*taken.posonlyargs, *taken.args, *taken.kwonlyargs])
            assert count <= 8, f"{function.name} takes {count} parameters"
        if taken.kwarg is not None and taken.kwarg.annotation is not None:
            anything = ast.unparse(taken.kwarg.annotation) == "Any"
            assert not anything or file.parent.name == "cli" or file.stem == "settings", (
                function.name
            )


@pytest.mark.parametrize("name", LIGHT)
def test_what_help_loads_has_no_torch(name):
    assert not imported_at_the_top(PACKAGE / f"{name}.py") & (HEAVY | {"rich"})


@pytest.mark.parametrize("file", sorted((PACKAGE / "cli").glob("*.py")), ids=name_of)
def test_the_command_line_has_no_torch_at_its_top(file):
    assert not imported_at_the_top(file) & HEAVY
    assert file.stem in ("bars", "preview") or "rich" not in imported_at_the_top(file)


def test_every_setting_has_a_help_text():
    from jeatcli.settings import Settings, declared

    for file in PACKAGE.glob("*/settings.py"):
        __import__(f"jeatcli.{file.parent.name}.settings")
    classes = Settings.__subclasses__()
    assert len(classes) >= 5
    for cls in classes:
        for name, (about, _) in declared(cls).items():
            assert about.help, f"{cls.__name__}.{name}"
            assert not about.help.endswith("."), f"{cls.__name__}.{name}"
