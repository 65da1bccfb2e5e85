"""`--config` and `--preset`: the settings of a TOML file below what the user says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..errors import UsageProblem, unknown
from ..training import presets
from ..training.config_file import read_toml
from .options import Option
from .types import NUMBERS

# Where the methods' options of either wait for the rest, in the context.
CONFIG_OPTIONS = f"{__name__}.config_options"
PRESET_OPTIONS = f"{__name__}.preset_options"
_SOURCES = ("--config", "--preset", "--option")


@dataclass(frozen=True)
class FileOptions:
    """The method's options in a file: what the file is called, and the method that it says."""

    name: str
    method: str | None
    options: dict[str, Any]


def read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Lay the settings of a TOML file below those of the environment and the command line.

    Raises:
        UsageProblem: If the file is no TOML, or has a key that is no option.
    """
    if path is not None and not ctx.resilient_parsing:
        table, ctx.meta[CONFIG_OPTIONS] = _settings(ctx, path, f"`{path}`")
        ctx.default_map = {**(ctx.default_map or {}), **table}
    return path


def read_preset(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Lay the settings of a published recipe below those of `--config`."""
    if name is not None and not ctx.resilient_parsing:
        table, ctx.meta[PRESET_OPTIONS] = _settings(ctx, presets.file(name), f"preset `{name}`")
        ctx.default_map = {**table, **(ctx.default_map or {})}
    return name


def _settings(ctx: click.Context, path: Path, name: str) -> tuple[dict[str, Any], FileOptions]:
    """Return the file's settings by parameter name, and its options of the method."""
    table = read_toml(path)
    known = {
        long.removeprefix("--"): other
        for other in ctx.command.params
        if isinstance(other, Option)
        for long in other.opts
        if long.startswith("--") and long not in _SOURCES
    }
    options = _options_table(path, table.pop("options", {}))
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        if (target := known.get(key.replace("_", "-"))) is None:
            wrong = unknown("key", key, [*known, "options"])
            raise UsageProblem(f"{wrong.message} in `{path}`", wrong.hint)
        if isinstance(value, dict) or (isinstance(value, list) and target.type is not NUMBERS):
            raise UsageProblem(f"`{key}` in `{path}` must be a single value")
        # As text, so that the option's own type judges it: 3.5 epochs is an error, not 3.
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        defaults[str(target.name)] = text
    return defaults, FileOptions(name, defaults.get("method", "").lower() or None, options)


def _options_table(path: Path, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UsageProblem(f"`options` in `{path}` must be a table", "write `[options]` above them")
    return {key.replace("-", "_"): value for key, value in table.items()}
