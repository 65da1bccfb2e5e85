"""Stops a run that diverges, before it is saved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from .trainer import Callback, Metrics, Trainer, numbers

# Healthy runs keep E(x+) - E(x_K) within tens; a diverging one passes this while all is finite.
_LIMITS = {"energy": 1e4, "energy_sgld": 1e4, "energy_gap": 1e3}


class Diverging(Exception):
    """Training has diverged beyond recovery."""


@dataclass
class Divergence(Callback):
    """Raise `Diverging` where a logged metric is not finite, or an energy is out of bounds.

    Metrics are read every `every` steps, because reading makes an accelerator wait.
    """

    every: ClassVar[int] = 10
    latest: Metrics = field(default_factory=dict)

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        self.latest = metrics
        if trainer.step % self.every == 0:
            self.check()

    def on_epoch(self, trainer: Trainer) -> None:
        self.check()

    def check(self) -> None:
        """Check the latest metrics."""
        for name, value in numbers(self.latest).items():
            if not abs(value) <= _LIMITS.get(name, torch.finfo(torch.float32).max):
                raise Diverging(f"{name} is {value:.3g}")


def gentler(options: Mapping[str, Any], precision: str = "fp32") -> str:
    """Say which settings of a method keep it from diverging."""
    lower = ["`--lr`", *(["`--sgld-step-size`"] if "sgld_step_size" in options else [])]
    more = ", or more `-O energy_l2=0.1`" if "energy_l2" in options else ""
    exact = "" if precision == "fp32" else ", or `--precision fp32`"
    return f"a lower {' or '.join(lower)}{more}{exact}"
