"""A training run's settings as a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import UsageProblem
from .resolve import resolve
from .settings import TrainConfig


def to_toml(config: TrainConfig) -> str:
    """Write a configuration as TOML that `jeat train -c` reads."""
    settings = asdict(config)
    options = settings.pop("options")
    lines = [f"{key} = {_toml_value(value)}" for key, value in settings.items()]
    lines += ["", "[options]"]
    lines += [f"{key} = {_toml_value(value)}" for key, value in options.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(repr, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageProblem: If it is not there or is not TOML, with the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"cannot read `{path}`: {problem}", "check the path") from problem
    except tomllib.TOMLDecodeError as problem:
        raise UsageProblem(
            f"`{path}` is not valid TOML: {problem}",
            "mend it there; `jeat train --dry-run` prints a file to start from",
        ) from problem


def read_config(path: Path) -> TrainConfig:
    """Read the `config.toml` of a run.

    Raises:
        UsageProblem: If it is not there or something in it is wrong, naming the file.
    """
    settings = read_toml(path)
    try:
        return resolve(settings)
    except UsageProblem as problem:
        raise UsageProblem(f"{problem.message} in `{path}`", problem.hint) from problem
