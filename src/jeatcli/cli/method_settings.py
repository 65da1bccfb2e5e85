"""The method's options, from the preset's up to the command line's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from ..core.threat import parse_number
from ..errors import UsageProblem
from .config_layers import CONFIG_OPTIONS, PRESET_OPTIONS, FileOptions

# Options of the methods that have a name of their own besides `-O`.
SHORT_FORMS = (
    "norm",
    "eps",
    "attack_steps",
    "attack_step_size",
    "sgld_steps",
    "sgld_step_size",
    "sgld_noise",
    "buffer_size",
    "reinit",
)
# What decides about an option of the attack if nothing is said.
_DEPENDS = {"eps": ("norm",), "attack_step_size": ("norm", "eps", "attack_steps")}
# What makes one method of another.
_IDENTITY = "attack_objective"


@dataclass
class Layer:
    """The options that one source gives, and the file that it is, if it is one."""

    options: dict[str, Any]
    file: FileOptions | None = None


def method_settings(ctx: click.Context, say: Callable[[str], object]) -> dict[str, Any]:
    """Merge the method's options; say what of a file's is left out, and why.

    Of a file for another method the options that this one does not have are left out, and with
    them what the attack raises, which would make this one that. An eps in another norm, and a
    step for another ball or number of steps, give way to the defaults, which follow what is said.

    Raises:
        UsageProblem: If one is given twice in the same place, as `--eps` and as `-O eps=...`.
    """
    layers = _layers(ctx)
    for place, layer in enumerate(layers):
        if layer.file is not None:
            _leave_out_the_others(layer.file, layer.options, ctx.params["method"], say)
            above = merged(layers[place + 1 :])
            _leave_out_the_outdated(layer.file, layer.options, above, say)
    return merged(layers)


def merged(layers: list[Layer]) -> dict[str, Any]:
    """Lay the sources over one another."""
    return {key: value for layer in layers for key, value in layer.options.items()}


def _layers(ctx: click.Context) -> list[Layer]:
    """Return the sources, the lowest first."""
    source = ctx.get_parameter_source
    files = [ctx.meta[key] for key in (PRESET_OPTIONS, CONFIG_OPTIONS) if key in ctx.meta]
    found = [Layer(dict(file.options), file) for file in files]
    if found:
        # Those that are not under `[options]`, whoever wins in the end; a preset has none.
        table = ctx.default_map or {}
        above = {key: table[key] for key in SHORT_FORMS if key in table}
        found[-1].options = _once(above, found[-1].options)
    for level in (ParameterSource.ENVIRONMENT, ParameterSource.COMMANDLINE):
        named = {key: ctx.params[key] for key in SHORT_FORMS if source(key) is level}
        pairs = dict(ctx.params["option"]) if source("option") is level else {}
        found.append(Layer(_once(named, pairs)))
    return found


def _once(named: Mapping[str, Any], pairs: Mapping[str, Any]) -> dict[str, Any]:
    if twice := sorted(named.keys() & pairs.keys()):
        flag = "--" + twice[0].replace("_", "-")
        raise UsageProblem(f"`{twice[0]}` is given twice, by `{flag}` and among the options")
    return {**named, **pairs}


def _leave_out_the_others(
    file: FileOptions, options: dict[str, Any], method: str, say: Callable[[str], object]
) -> None:
    """Remove what belongs to the method of the file, if that is another one."""
    if file.method is None or file.method == method:
        return
    from ..methods import options_of

    known = options_of(method, {}, {}, None)
    strange = [key for key in options if key not in known or key == _IDENTITY]
    for key in strange:
        del options[key]
    if strange:
        say(f"{file.name} is for `{file.method}`: left out for `{method}`: {', '.join(strange)}")


def _leave_out_the_outdated(
    file: FileOptions,
    options: dict[str, Any],
    above: Mapping[str, Any],
    say: Callable[[str], object],
) -> None:
    """Remove what belongs to a ball, or a number of steps, that something above has changed."""
    # A radius without a norm is one of linf.
    said = {"norm": "linf", **options}
    changed = {
        key
        for key in ("norm", "eps", "attack_steps")
        if key in above and key in said and _value(above[key]) != _value(said[key])
    }
    outdated = [
        key
        for key, on in _DEPENDS.items()
        if key in options and key not in above and changed.intersection(on)
    ]
    for key in outdated:
        del options[key]
    if outdated:
        what = " and ".join(sorted(changed))
        say(f"{file.name} has another {what}: left to the defaults: {', '.join(outdated)}")


def _value(given: object) -> object:
    """Read what may be text or number, as 8/255."""
    try:
        return parse_number(str(given))
    except ValueError:
        return str(given)
