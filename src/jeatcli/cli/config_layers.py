"""The settings of `jeat train` by source: preset, file, environment, command line.

Whatever stands in a preset or in `-c FILE.toml` becomes click's default. The method's options need
more: an option of a lower source may belong to another method, or to a ball that was changed above.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from ..core.options import ChainOptions, InnerAttackOptions, LossOptions, OutlierOptions
from ..core.threat import NORMS, parse_number
from ..data.facts import customary_eps, dataset_facts
from ..errors import UsageProblem, unknown
from ..methods import METHODS, options_of
from ..settings import declared
from ..training import presets
from ..training.resolve import read_toml
from ..training.settings import METHOD
from .options import ORIGINS, Option, combine, option
from .types import NUMBERS, PRESET, ParamType, starting

# Where the layers of the files wait in the context for those of the environment and the command
# line.
_CONFIG, _PRESET = f"{__name__}.config", f"{__name__}.preset"
_SOURCES = ("--config", "--preset", "--option")
# Options of the methods that have a flag of their own besides `-O`.
FLAGS = tuple(
    name
    for part in (LossOptions, OutlierOptions, InnerAttackOptions, ChainOptions)
    for name, (about, _) in declared(part).items()
    if about.section
)
# Which settings the default of an option of the attack depends on.
_DEPENDS = {
    "eps": ("norm", "data set"),
    "attack_step_size": ("norm", "eps", "attack_steps", "data set"),
}
# The option that makes one method of another.
_IDENTITY = "attack_objective"


@dataclass
class Layer:
    """The method's options from one source."""

    options: dict[str, Any]
    file: str | None = None  # what the source is called, if it is a file
    method: str | None = None  # that the file names
    dataset: str | None = None  # likewise
    holds_out: bool = False  # whether it says how many images to hold out


class KeyValue(ParamType):
    """`KEY=VALUE`, an option of a method."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not (equals and key.strip()):
            self.fail(f"`{value}` is not of the form KEY=VALUE", param, ctx)
        return key.strip().replace("-", "_"), text.strip()

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer the options of the method, or the choices of one; this alone imports torch."""
        method = METHODS.load(ctx.params.get("method") or "jeat")
        options = {key.rstrip("_"): about for key, (about, _) in declared(method).items()}
        key, equals, _ = incomplete.partition("=")
        if equals and key in options:
            values = {f"{key}={choice}": "" for choice in options[key].choices}
        else:
            values = {f"{key}=": about.help for key, about in options.items()}
        return starting(incomplete, values)


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not ctx.resilient_parsing:
        table, ctx.meta[_CONFIG] = _settings(ctx, path, f"`{path}`")
        ctx.default_map = {**(ctx.default_map or {}), **table}
        ctx.meta[ORIGINS] = {**ctx.meta.get(ORIGINS, {}), **dict.fromkeys(table, f"`{path}`")}
    return path


def _read_preset(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    if name is not None and not ctx.resilient_parsing:
        table, ctx.meta[_PRESET] = _settings(ctx, presets.file(name), f"preset `{name}`")
        ctx.default_map = {**table, **(ctx.default_map or {})}
        origins = dict.fromkeys(table, f"preset `{name}`")
        ctx.meta[ORIGINS] = {**origins, **ctx.meta.get(ORIGINS, {})}
    return name


layer_options = combine(
    option(
        METHOD,
        "-O",
        "--option",
        help="An option of the method, such as lambda=0.5; repeatable (--dry-run lists all)",
        type=KeyValue(),
        metavar="KEY=VALUE",
        multiple=True,
    ),
    option(
        METHOD,
        "--preset",
        help="A published recipe; other options override it; listed below",
        type=PRESET,
        metavar="NAME",
        is_eager=True,
        callback=_read_preset,
    ),
    option(
        METHOD,
        "-c",
        "--config",
        help="Settings from a file, such as the config.toml of a run",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE.toml",
        is_eager=True,
        callback=_read_config,
    ),
)


def _settings(ctx: click.Context, path: Path, name: str) -> tuple[dict[str, Any], Layer]:
    """Return the file's settings by parameter name, and its options of the method."""
    table = read_toml(path)
    known = {
        long.removeprefix("--"): other
        for other in ctx.command.params
        if isinstance(other, Option)
        for long in other.opts
        if long.startswith("--") and long not in _SOURCES
    }
    options = table.pop("options", {})
    if not isinstance(options, dict):
        raise UsageProblem(f"`options` in `{path}` must be a table", "write `[options]` above them")
    settings: dict[str, Any] = {}
    for key, value in table.items():
        if (target := known.get(key.replace("_", "-"))) is None:
            wrong = unknown("key", key, [*known, "options"])
            raise UsageProblem(f"{wrong.message} in `{path}`", wrong.hint)
        several = target.multiple or target.type is NUMBERS
        if isinstance(value, dict) or (isinstance(value, list) and not several):
            raise UsageProblem(f"`{key}` in `{path}` must be a single value")
        if target.is_flag and not isinstance(value, bool):
            raise UsageProblem(f"`{key}` in `{path}` must be true or false, not {value!r}")
        # As text, so that the option's own type checks it: 3.5 epochs is an error, not 3.
        texts = list(map(str, value if isinstance(value, list) else [value]))
        settings[str(target.name)] = texts if target.multiple else ",".join(texts)
    options = {key.replace("-", "_"): value for key, value in options.items()}
    method, dataset = settings.get("method", "").lower() or None, settings.get("dataset")
    return settings, Layer(options, name, method, dataset, "val_split" in settings)


def method_settings(ctx: click.Context, say: Callable[[str], object]) -> dict[str, Any]:
    """Merge the method's options; say which of a file's are left out, and why.

    Of a file for another method the options that this one does not have are left out, and with
    them the attack's objective, which would make this one that. An eps in another norm or for a
    data set of another scale, and a step size for another ball or number of steps, give way to
    the defaults.
    """
    layers = _layers(ctx)
    for index, layer in enumerate(layers):
        if layer.file is not None:
            _drop_other_methods(layer, ctx.params["method"], say)
            _drop_outdated(layer, _merged(layers[index + 1 :]), ctx.params["dataset"], say)
    return _merged(layers)


def held_out(ctx: click.Context, say: Callable[[str], object]) -> int | None:
    """Return how many images to hold out; None where a file of another data set says too many."""
    given: int | None = ctx.params["val_split"]
    layers = [ctx.meta[key] for key in (_CONFIG, _PRESET) if key in ctx.meta]
    layer = next((layer for layer in layers if layer.holds_out), None)
    if layer is None or ctx.get_parameter_source("val_split") is not ParameterSource.DEFAULT_MAP:
        return given
    name = ctx.params["dataset"]
    facts = dataset_facts(name) if name else None
    usual = given if facts is None else facts.defaults.get("val_split", given)
    if layer.dataset in (None, name) or given == usual:
        return given
    say(f"{layer.file} is for {layer.dataset}; set to the default of {name}: val_split")
    return None


def _merged(layers: list[Layer]) -> dict[str, Any]:
    return {key: value for layer in layers for key, value in layer.options.items()}


def _layers(ctx: click.Context) -> list[Layer]:
    """Return the sources, the lowest first."""
    source = ctx.get_parameter_source
    layers = [ctx.meta[key] for key in (_PRESET, _CONFIG) if key in ctx.meta]
    if layers:
        # Those that do not stand under `[options]`; a preset has none.
        table = ctx.default_map or {}
        above = {key: table[key] for key in FLAGS if key in table}
        layers[-1].options = _once(above, layers[-1].options)
    for level in (ParameterSource.ENVIRONMENT, ParameterSource.COMMANDLINE):
        named = {key: ctx.params[key] for key in FLAGS if source(key) is level}
        layers.append(Layer(_once(named, _pairs(ctx, level))))
    return layers


def _pairs(ctx: click.Context, level: ParameterSource) -> dict[str, Any]:
    """Return what `-O`, or its variable, sets; of two sources click's own value is one alone."""
    if ctx.get_parameter_source("option") is level:
        return dict(ctx.params["option"])
    if level is not ParameterSource.ENVIRONMENT:
        return {}
    parameter = next(each for each in ctx.command.params if each.name == "option")
    return dict(parameter.process_value(ctx, parameter.value_from_envvar(ctx)) or ())


def _once(named: Mapping[str, Any], pairs: Mapping[str, Any]) -> dict[str, Any]:
    if twice := sorted(named.keys() & pairs.keys()):
        flag = "--" + twice[0].replace("_", "-")
        raise UsageProblem(f"`{twice[0]}` is given twice, by `{flag}` and among the options")
    return {**named, **pairs}


def _drop_other_methods(layer: Layer, method: str, say: Callable[[str], object]) -> None:
    """Remove what belongs to the method of the file, if that is another one."""
    if layer.method is None or layer.method == method:
        return
    known = options_of(method, {}, {}, None)
    if others := [key for key in layer.options if key not in known or key == _IDENTITY]:
        for key in others:
            del layer.options[key]
        say(f"{layer.file} is for `{layer.method}`; ignored for `{method}`: {', '.join(others)}")


def _drop_outdated(
    layer: Layer, above: Mapping[str, Any], dataset: str | None, say: Callable[[str], object]
) -> None:
    """Remove what belongs to a ball, steps or a data set that a higher source has changed."""
    # A radius without a norm is one of linf.
    lower = {"norm": "linf", **layer.options}
    changed: set[str] = {
        key
        for key in ("norm", "eps", "attack_steps")
        if key in above and key in lower and _value(above[key]) != _value(lower[key])
    }
    norm = str(above.get("norm", lower["norm"]))
    if layer.dataset and dataset and norm in NORMS:
        # A data set of the same scale keeps the radius that the recipe was published with.
        usual, theirs = customary_eps(dataset)[norm], customary_eps(layer.dataset)[norm]
        if usual != theirs:
            changed.add("data set")
    outdated = [
        key
        for key, on in _DEPENDS.items()
        if key in layer.options and key not in above and changed.intersection(on)
    ]
    if outdated:
        for key in outdated:
            del layer.options[key]
        others = " and ".join(sorted(changed))
        say(f"{layer.file} has another {others}; set to the default: {', '.join(outdated)}")


def _value(given: object) -> object:
    """Read what may be text or number, as 8/255."""
    try:
        return parse_number(str(given))
    except ValueError:
        return str(given)
