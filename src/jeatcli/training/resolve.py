"""The defaults of a training run, how they are laid over one another, and its TOML file."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..checkpoints import runs
from ..checkpoints.header import read_header
from ..checkpoints.hub import is_hub
from ..data.facts import dataset_facts, image_size, own_path
from ..errors import UsageProblem
from ..methods import has_chain, options_of
from ..runtime.files import expand
from .settings import TrainConfig

_FIELDS = {item.name: item.default for item in fields(TrainConfig)}
_BASE = {name: default for name, default in _FIELDS.items() if name != "options"}

_SMALL: dict[str, Any] = {
    "norm_layer": "none",
    "activation": "silu",
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 1.5e-3,
    "weight_decay": 1e-4,
    "grad_clip": 1.0,
    "ema": 0.99,
    "attack_steps": 3,
    "sgld_steps": 5,
    "buffer_size": 1000,
    "chain_start": "gaussian",
}

# Of a batch (Wang et al. 2023).
_EXTRA_SHARE = 0.7
# Settings that are newer than version 0.1.0.
_NEW = {"augment", "init_from", "extra", "extra_share", "track", "kernel"}
# What the network that a run starts from decides.
_DECIDED = ("dataset", "arch", "norm_layer", "activation")
# SGLD needs the same function as training, hence no batch statistics, and a smooth one
# (Grathwohl et al. 2020); its gradients are the ones that diverge.
_CHAINED: dict[str, Any] = {
    "norm_layer": "none",
    "activation": "silu",
    "optimizer": "adamw",
    "lr": 3e-4,
    "batch_size": 64,
    "weight_decay": 1e-4,
    "grad_clip": 1.0,
}


def defaults(method: str, dataset: str, arch: str | None = None) -> dict[str, Any]:
    """Lay the tables of defaults over one another; keys that no config has are the method's."""
    facts = dataset_facts(dataset)
    of_dataset = {"augment": facts.augment, **facts.defaults} if facts else {}
    arch = arch or of_dataset.get("arch", _BASE["arch"])
    if arch != of_dataset.get("arch"):
        # A learning rate suits a network and its optimiser, whatever the images.
        of_dataset.pop("lr", None)
    of_method = _CHAINED if has_chain(method) else {}
    of_arch = _SMALL if arch == "small" else {}
    merged = {**_BASE, **of_method, **of_arch, **of_dataset}
    return {**merged, "method": method, "dataset": dataset, "arch": arch}


def resolve(settings: TrainConfig | Mapping[str, Any]) -> TrainConfig:
    """Fill in the defaults for the fields of `TrainConfig` that are absent or None.

    Of a whole `TrainConfig` only options can be absent, and paths relative.
    """
    if isinstance(settings, TrainConfig):
        settings = vars(settings)
    elif not isinstance(settings, Mapping):
        raise UsageProblem(
            f"the settings of a run cannot be of the type {type(settings).__name__}",
            'give a dictionary, such as `{"method": "at", "dataset": "digits"}`, or a TrainConfig',
        )
    explicit = {key: value for key, value in settings.items() if value is not None}
    if source := str(explicit.get("init_from", "")):
        # In another working directory a relative path would name another network.
        named = runs.is_name(source) or is_hub(source)
        explicit["init_from"] = source if named else str(runs.place(source))
        explicit = _of_source(explicit) | explicit
    if file := str(explicit.get("extra", "")):
        explicit = {"extra_share": _EXTRA_SHARE, **explicit, "extra": str(expand(file).absolute())}
    method = str(explicit.get("method", _BASE["method"]))
    dataset = str(explicit.get("dataset", _BASE["dataset"]))
    if own_path(dataset):
        dataset = explicit["dataset"] = _absolute(dataset)
    table = defaults(method, dataset, explicit.get("arch"))
    options = explicit.pop("options", {})
    if not isinstance(options, Mapping):
        raise UsageProblem(
            f"`options` cannot be {options!r}", "give a table of the method's options"
        )
    options = options_of(method, options, table, dataset_facts(dataset))
    if "ood" in options:
        options["ood"] = _absolute(options["ood"])
    return TrainConfig.of({key: table[key] for key in _BASE} | explicit | {"options": options})


def _absolute(name: str) -> str:
    """Return a data set's name with a path that is the same in another working directory."""
    if own := own_path(name):
        size, name = image_size(name), f"{name.partition(':')[0]}:{expand(own).absolute()}"
        # A directory may be called `pets@64`: with a slash that is no size.
        name += f"@{size}" if size else "/" if image_size(name) else ""
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise UsageProblem(
            f"`{name}` is not UTF-8, as a settings file must be", "rename the folder"
        )
    return name


def _of_source(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the network to start from decides, unless they are explicit."""
    undecided = [key for key in _DECIDED if key not in explicit]
    if not undecided:  # nor need it be there any more
        return {}
    path = runs.resolve(explicit["init_from"])
    header = {} if runs.is_foreign(path) else read_header(path)
    return {key: header[key] for key in undecided if key in header}


def check_network(config: TrainConfig) -> None:
    """Build the network without its weights, of which there may be too many for this machine."""
    import torch

    from ..core.models import build
    from ..core.models.layers import Shape

    facts = dataset_facts(config.dataset)
    shape, classes = (facts.shape, len(facts.classes)) if facts else ((3, 32, 32), 10)
    with torch.device("meta"):
        build(config.arch, Shape(shape, classes, config.norm_layer, config.activation))


def to_toml(config: TrainConfig) -> str:
    """Write a configuration as TOML that `jeat train -c` reads."""
    settings = asdict(config)
    options = settings.pop("options")
    top, table = (
        "".join(f"{key} = {_toml_value(each)}\n" for key, each in part.items() if each is not None)
        for part in (settings, options)
    )
    return f"{top}\n[options]\n{table}"


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(repr, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def read_toml(path: Path) -> dict[str, Any]:
    """Read the settings in a TOML file."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"cannot read `{path}`: {problem}", "check the path") from problem
    # Nesting and digits without end are errors of other kinds than TOML's own.
    except (ValueError, RecursionError) as problem:
        raise UsageProblem(
            f"`{path}` is not valid TOML: {problem}",
            "correct it, or start from what `jeat train --dry-run` prints",
        ) from problem
    return _upgraded(table)


def _upgraded(table: dict[str, Any]) -> dict[str, Any]:
    """Add the augmentation that version 0.1.0, which wrote every setting, did not write."""
    old = "augment" not in table and table.keys() >= _FIELDS.keys() - _NEW
    if old and str(table["dataset"]).startswith("folder:"):
        return {**table, "augment": "crop4+flip"}
    return table


def read_config(path: Path) -> TrainConfig:
    """Read the `config.toml` of a run."""
    settings = read_toml(path)
    if "kernel" not in settings:  # Up to version 0.1.0 only what was compiled was Winograd's.
        settings["kernel"] = "winograd" if settings.get("compile") else "library"
    try:
        return resolve(settings)
    except UsageProblem as problem:
        raise UsageProblem(f"{problem.message} in `{path}`", problem.hint) from problem
