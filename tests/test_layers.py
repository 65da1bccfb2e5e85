"""Files import downward only, and torch, click and rich stay where they belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "jeatcli"

# Each line may import the lines above it. Files of one line do not know each other.
ORDER = """
errors reporting launch provenance naming
paths catalogue threat datasets randomness devices ranks digests
config foreign
runs config_file download render figure energy sgld data_local state_dict
pgd models data_published run_folder presets
data matching model
methods attacks optimize adoption
trainer
checkpoint journal symptoms selection batch_size
progress refusals
verdict robustness agenda
evaluate detection inception guard log memory profiling collection descents
starts
recipe features
edits drawing
generate
callbacks views validation
stage curve landscape
survival
training
fidelity export source neighbours calibration
protocol classifier comparison
score
cli
"""
RANK = {name: rank for rank, line in enumerate(ORDER.split("\n")) for name in line.split()}

CLI_ORDER = """
parameters stdout ui
options
settings_file sampler_options foreign_options sample_files score_report
method_options method_settings
train_options
attack_report landscape_report
train attack sample landscape score
__init__
"""
CLI_RANK = {name: rank for rank, line in enumerate(CLI_ORDER.split("\n")) for name in line.split()}

# What `--help`, completion and `import jeatcli` load.
LIGHT = {
    "__init__",
    "__main__",
    "errors",
    "reporting",
    "launch",
    "paths",
    "catalogue",
    "threat",
    "datasets",
    "config",
    "config_file",
    "foreign",
    "runs",
}
HEAVY = {"torch", "torchvision", "torch_fidelity", "matplotlib", "numpy", "PIL", "safetensors"}


def imports(file: Path, everywhere: bool) -> Iterator[tuple[int, str]]:
    """Yield (level, first name) of the imports of a file; those for the type checker are none."""
    waiting: list[ast.AST] = list(ast.parse(file.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level, name.partition(".")[0]) for name in names)
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(node))


FILES = sorted(PACKAGE.rglob("*.py"))
CORE = [file for file in FILES if file.parent.name != "cli" and not file.stem.startswith("__")]


def name_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


@pytest.mark.parametrize("file", CORE, ids=name_of)
def test_core_imports_downward(file):
    inside = file.parent != PACKAGE
    unit = file.parent.name if inside else file.stem
    assert unit in RANK, f"give `{unit}` its place in ORDER"
    for level, name in imports(file, everywhere=False):
        if level == (2 if inside else 1):
            assert RANK.get(name, len(ORDER)) < RANK[unit], f"{unit} may not import {name}"


@pytest.mark.parametrize("folder", ["methods", "attacks"])
def test_methods_and_attacks_do_not_know_each_other(folder):
    for file in (PACKAGE / folder).glob("[!_]*.py"):
        siblings = {name for level, name in imports(file, everywhere=True) if level == 1}
        assert all(name.startswith("_") for name in siblings), file.name


@pytest.mark.parametrize("file", sorted((PACKAGE / "cli").glob("*.py")), ids=name_of)
def test_cli_imports_downward(file):
    for level, name in imports(file, everywhere=True):
        if level == 1:
            assert CLI_RANK[name] < CLI_RANK[file.stem]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_click_and_rich_stay_in_the_command_line(file):
    names = {name for level, name in imports(file, everywhere=True) if level == 0}
    if file.parent.name != "cli":
        assert not names & {"click", "rich"}
    elif file.stem != "ui":
        assert "rich" not in names


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_what_help_loads_has_no_torch(file):
    if file.parent.name == "cli" or (file.parent == PACKAGE and file.stem in LIGHT):
        names = {name for level, name in imports(file, everywhere=False) if level == 0}
        assert not names & (HEAVY | {"rich"})


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_nothing_is_called_utils(file):
    assert "util" not in file.stem


def test_every_file_of_the_order_is_there():
    units = {file.stem for file in PACKAGE.glob("*.py")} | {path.name for path in PACKAGE.iterdir()}
    assert set(RANK) <= units
