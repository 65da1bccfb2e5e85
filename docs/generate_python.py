"""Write docs/python.md from signatures, docstrings and settings; with --check, only compare."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import get_origin

from generated import update

from jeatcli.checkpoints.settings import Foreign
from jeatcli.landscapes import KINDS
from jeatcli.robustness.settings import AttackSettings
from jeatcli.sampling.settings import SamplerSettings, SampleSettings
from jeatcli.scoring.settings import ClassifierSettings, ScoreSettings
from jeatcli.settings import Settings, declared
from jeatcli.training.settings import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "jeatcli"
PAGE = Path(__file__).with_name("python.md")
INTRODUCTION = """\
# Python API

These are the functions behind the commands: `from jeatcli import attack, sample`. Each takes the
name or path of a run, or a model from `load` or `wrap`. Images are tensors or arrays
(n, C, H, W), as floats in [0, 1] or uint8, or a DataLoader. Every setting of a command is a
keyword here, listed below each function: `--batch-size 64` becomes `batch_size=64`. `device` may
be a `torch.device`. Importing the package does not import torch. Calls from several threads take
turns.

The functions print nothing but warnings. To see the same progress as on the command line, pass
`reporter=Terminal()`, from `jeatcli.cli.terminal`. The traceback of an error ends with its hint.

`docs/generate_python.py` (`make docs`) writes this page from signatures and docstrings, and a test
runs its examples.
"""
# In the order in which a notebook meets them; the others follow.
FIRST = ("load", "wrap", "attack", "sample", "energy", "energy_landscape", "image_scores")
# What the functions return, in the order of the page.
RESULTS = {
    "Model": "checkpoints/model.py",
    "Robustness": "robustness/result.py",
    "Samples": "sampling/sample.py",
    "Landscape": "landscapes/landscape.py",
    "Scores": "scoring/image_scores.py",
    "ClassifierScores": "scoring/classifier_scores.py",
}
# Whose fields the keywords of a function are.
SETTINGS: dict[str, tuple[type[Settings], ...]] = {
    "attack": (AttackSettings,),
    "sample": (SampleSettings, SamplerSettings),
    "energy_landscape": tuple(kind.settings for kind in KINDS.values()),
    "image_scores": (ScoreSettings, SamplerSettings),
    "classifier_scores": (ClassifierSettings,),
    "Foreign": (Foreign,),
    "TrainConfig": (TrainConfig,),
}
Definition = ast.FunctionDef | ast.ClassDef
_SECTIONS = {"Args:": "**Arguments**", "Raises:": "**Raises**", "Examples:": "**Example**"}


def homes() -> dict[str, Path]:
    """Return the file of each public name."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = ast.literal_eval(values["_HOMES"])
    return {name: PACKAGE / (home.replace(".", "/") + ".py") for name, home in found.items()}


def definition(file: Path, name: str) -> Definition:
    """Return the function or class `name` of a file."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, Definition) and node.name == name:
            return node
    raise LookupError(f"{file} defines no {name}")


def signature(node: Definition) -> str:
    """Write a function with its arguments, or the public fields and properties of a class."""
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}"
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    values: list[ast.expr | None] = [None] * (len(plain) - len(given.defaults)) + [*given.defaults]
    words = [_argument(arg, value) for arg, value in zip(plain, values, strict=True)]
    if given.kwonlyargs:
        words.append("*")
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    words += [_argument(arg, value) for arg, value in pairs]
    if given.kwarg:
        words.append(f"**{given.kwarg.arg}")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({', '.join(words)}){returns}"
    if len(line) <= 100:
        return line
    inside = "\n".join(f"    {word}," for word in words)
    return f"{node.name}(\n{inside}\n){returns}"


def _argument(arg: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(arg.annotation)}" if arg.annotation else ""
    if default is None:
        return arg.arg + kind
    return f"{arg.arg}{kind}{' = ' if kind else '='}{ast.unparse(default)}"


def prose(docstring: str) -> str:
    """Turn a docstring of Google's style into Markdown."""
    lines: list[str] = []
    section = ""
    for line in docstring.splitlines():
        if line in _SECTIONS:
            section = line
            lines += [_SECTIONS[line], "", *(["```pycon"] if line == "Examples:" else [])]
        elif section == "Examples:":
            lines.append(line.removeprefix("    "))
        elif section and (match := re.match(r"    (\w[\w, ]*): (.*)", line)):
            names = ", ".join(f"`{name.strip()}`" for name in match[1].split(","))
            lines.append(f"- {names}: {match[2]}")
        elif section:
            lines.append("  " + line.strip() if line.strip() else "")
        else:
            lines.append(line)
    if section == "Examples:":
        lines.append("```")
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def entry(file: Path, name: str) -> str:
    """Return the section of one name."""
    node = definition(file, name)
    text = prose(ast.get_docstring(node) or "")
    return f"## {name}\n\n```python\n{signature(node)}\n```\n\n{text}\n{settings(name)}"


def settings(name: str) -> str:
    """Return the table of the settings that a function takes as keywords."""
    rows: dict[str, str] = {}
    for cls in SETTINGS.get(name, ()):
        for field, (about, kinds) in declared(cls).items():
            default = cls.__dataclass_fields__[field].default
            shown = about.shown or ("" if default in (None, ()) else str(default))
            help = re.sub(r"[;,] listed below", "", about.help).replace("|", "\\|")
            if not any(get_origin(kind) is tuple for kind in kinds):
                # The command runs the function once for each value.
                help = re.sub("; repeatable.*", "", help)
            rows.setdefault(field, f"| `{field}` | {help} | {shown} |")
    if not rows:
        return ""
    return "\n".join(
        [
            "\n**Settings**\n\n| name | what it is | default |",
            "| --- | --- | --- |",
            *rows.values(),
            "",
        ]
    )


def page() -> str:
    """Return the text of the page."""
    files = homes()
    functions = [name for name in files if name.islower()]
    order = dict.fromkeys([*FIRST, *functions, *files])
    parts = [INTRODUCTION, *(entry(files[name], name) for name in order)]
    results = [
        entry(PACKAGE / file, name).replace("## ", "### ", 1) for name, file in RESULTS.items()
    ]
    return "\n".join([*parts, "## What they return\n", *results])


def pages() -> dict[Path, str]:
    """Return what is written, by path."""
    return {PAGE: page()}


if __name__ == "__main__":
    sys.exit(update(pages()))
