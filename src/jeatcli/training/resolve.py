"""The defaults of a training run, and how they are laid over one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..data.facts import dataset_facts
from ..errors import unknown
from .settings import TrainConfig

_BASE: dict[str, Any] = {
    "method": "jeat",
    "dataset": "cifar10",
    "arch": "small",
    "norm_layer": "batch",
    "activation": "relu",
    "epochs": 100,
    "max_steps": 0,
    "batch_size": 128,
    "optimizer": "sgd",
    "lr": 0.1,
    "schedule": "one-cycle",
    "milestones": (0.5, 0.75),
    "lr_decay": 0.1,
    "warmup": 0.1,
    "weight_decay": 5e-4,
    "decay_norms": False,
    "momentum": 0.9,
    "grad_clip": 0.0,
    "ema": 0.999,
    "precision": "auto",
    "compile": False,
    "seed": 0,
    "limit": 0,
    "val_split": 0,
    "sample_every": 5,
    "eval_every": 5,
    "save_every": 300,
    "retries": 3,
}


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


# Chains need the function that training sees, hence no batch statistics, and a smooth one
# (Grathwohl et al. 2020); their gradients are the ones that run away.
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
    from ..methods import has_chain

    facts = dataset_facts(dataset)
    of_dataset = dict(facts.defaults) if facts else {}
    arch = arch or of_dataset.get("arch", _BASE["arch"])
    if arch != of_dataset.get("arch"):
        # A rate suits a network and its optimiser, whichever the images.
        of_dataset.pop("lr", None)
    of_method = _CHAINED if has_chain(method) else {}
    of_arch = _SMALL if arch == "small" else {}
    merged = {**_BASE, **of_method, **of_arch, **of_dataset}
    return {**merged, "method": method, "dataset": dataset, "arch": arch}


def resolve(given: Mapping[str, Any]) -> TrainConfig:
    """Fill in the defaults for what `given` leaves out or has as None.

    Args:
        given: Settings by field name of `TrainConfig`; `options` is a mapping.

    Raises:
        UsageProblem: If a key or a value is unknown, with the nearest one.
    """
    from ..methods import options_of

    said = {key: value for key, value in given.items() if value is not None}
    known = [each.name for each in fields(TrainConfig)]
    for key in said:
        if key not in known:
            raise unknown("setting", key, known)
    method, dataset = said.get("method", _BASE["method"]), said.get("dataset", _BASE["dataset"])
    if dataset.startswith("folder:"):
        # Another working directory has other images at a relative path.
        place = Path(dataset.removeprefix("folder:")).expanduser().absolute()
        dataset = said["dataset"] = f"folder:{place}"
    table = defaults(method, dataset, said.get("arch"))
    options = options_of(method, said.pop("options", {}), table, dataset_facts(dataset))
    settings = {key: table[key] for key in known if key in table} | said
    settings["milestones"] = tuple(settings["milestones"])
    return TrainConfig(**settings, options=options)
