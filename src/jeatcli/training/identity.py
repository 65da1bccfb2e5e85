"""Which settings make a run another one, and which file belongs to a run."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..acceleration.ways import instead_of
from ..checkpoints.runs import CONFIG_FILE
from ..errors import JeatError
from .settings import TrainConfig

# Settings that do not change what a run computes.
WATCHING = ("sample_every", "eval_every", "save_every", "track", "retries")
# The settings that are measured if they have these values; then they hold for a run to its end.
UNMEASURED: dict[str, Any] = {"precision": "auto", "kernel": "auto", "compile": None}
# Settings that may name another place by now: a digest tells whether the images are the same.
_ELSEWHERE = ("dataset", "extra", "init_from")


def unmeasured(config: TrainConfig) -> list[str]:
    """Return the names of the settings that are still to be measured."""
    return [name for name, value in UNMEASURED.items() if getattr(config, name) == value]


def of_model(config: TrainConfig) -> dict[str, Any]:
    """Return the settings by which a model is known to be of a run."""
    named = {name: getattr(config, name) for name in ("method", "arch", "seed")}
    return named | dict(config.options)


def of_state(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that hold from a run's first step to its last, lists of numbers as text.

    By these, a `config.toml` that was changed meanwhile is told from that of the run.
    """
    others = (*WATCHING, *UNMEASURED, *_ELSEWHERE, "options")
    named = {item.name: getattr(config, item.name) for item in fields(TrainConfig)}
    kept = {name: value for name, value in named.items() if name not in others}
    plain = {key: value if _is_plain(value) else str(value) for key, value in kept.items()}
    return plain | dict(config.options)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | float | int)


def foreign_settings(ours: Mapping[str, Any], header: Mapping[str, Any]) -> str:
    """Say what a file of another run has in place of a run's settings; empty if it is its own."""
    values = {key: (header[key], ours[key]) for key in ours.keys() & header.keys()}
    return difference_text({key: pair for key, pair in values.items() if pair[0] != pair[1]})


def check_settings(path: Path, header: Mapping[str, Any], config: TrainConfig) -> None:
    """Refuse a state that was saved under other settings than those of its run."""
    if other := foreign_settings(of_state(config), header.get("settings", {})):
        raise JeatError(
            f"`{path}` is the state of another run: it has {other}",
            f"put these back into `{CONFIG_FILE}`, or the run's own state into its place; "
            "for other settings, start another run with `-o NAME`",
        )


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
