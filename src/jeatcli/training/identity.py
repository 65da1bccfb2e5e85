"""Which settings make a run another one, and which file belongs to a run."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..acceleration.ways import instead_of
from .settings import TrainConfig

# Settings that do not change what a run computes.
WATCHING = ("sample_every", "eval_every", "save_every", "track", "retries")
# The settings that are measured if they have these values; then they hold for a run to its end.
UNMEASURED: dict[str, Any] = {"precision": "auto", "kernel": "auto", "compile": None}


def unmeasured(config: TrainConfig) -> list[str]:
    """Return the names of the settings that are still to be measured."""
    return [name for name, value in UNMEASURED.items() if getattr(config, name) == value]


def identity(config: TrainConfig) -> dict[str, Any]:
    """Return the settings by which a file of a run is known to be its own."""
    named = {name: getattr(config, name) for name in ("method", "arch", "seed")}
    return named | dict(config.options)


def foreign_settings(config: TrainConfig, header: Mapping[str, Any]) -> str:
    """Say what a file of another run has in place of a run's settings; empty if it is its own."""
    ours = identity(config)
    values = {key: (header[key], ours[key]) for key in ours.keys() & header.keys()}
    return difference_text({key: pair for key, pair in values.items() if pair[0] != pair[1]})


def difference_text(values: Mapping[str, tuple[Any, Any]]) -> str:
    """Write settings with both values: `lr=0.5, not lr=0.003`; empty if there are none."""
    theirs, ours = (
        ", ".join(f"{key}={_shown(values[key][side])}" for key in sorted(values)) for side in (0, 1)
    )
    return f"{theirs}, not {ours}" if values else ""


def _shown(value: object) -> str:
    if value is None or value == "":
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def differing(ours: TrainConfig, theirs: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Return the settings that make two runs different, each with its values in both."""
    names = [item.name for item in fields(TrainConfig) if item.name not in (*WATCHING, "options")]
    values = {name: (getattr(ours, name), getattr(theirs, name)) for name in names}
    for key in {**ours.options, **theirs.options}:
        values[key] = ours.options.get(key), theirs.options.get(key)
    for name in unmeasured(ours):
        del values[name]
    # A run has the one that was possible, and goes on with it.
    if theirs.kernel in instead_of(ours.kernel):
        values.pop("kernel", None)
    return {key: values[key] for key in sorted(values) if values[key][0] != values[key][1]}
