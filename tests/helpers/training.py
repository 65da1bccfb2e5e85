"""Runs that are over in seconds, for tests of what surrounds the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jeatcli.training.resolve import resolve
from jeatcli.training.settings import TrainConfig
from jeatcli.training.train import TrainResult, train

STEPS = {"attack_steps": 2, "sgld_steps": 2, "buffer_size": 100}


def config(method: str = "standard", **settings: Any) -> TrainConfig:
    """Return a configuration of two epochs on 128 digits."""
    from jeatcli.methods import options_of
    from jeatcli.training.resolve import defaults

    known = options_of(method, {}, defaults(method, "digits"), None)
    options = {key: min(value, known[key]) for key, value in STEPS.items() if key in known}
    options |= settings.pop("options", {})
    quick = {"epochs": 2, "batch_size": 32, "limit": 128, "sample_every": 0, "eval_every": 0}
    given = {"method": method, "dataset": "digits", **quick, **settings, "options": options}
    return resolve(given)


def run(out: Path | str, method: str = "standard", **settings: Any) -> TrainResult:
    """Train such a run."""
    return train(config(method, **settings), out)


class StopAfter:
    """Ask for a stop at that question, between steps or within one."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0
