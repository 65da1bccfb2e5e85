"""Accuracy while a run trains, and the state that is best by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.images import Images
from ..robustness.attacks.batch import Plan
from ..robustness.batch_size import USUAL
from ..robustness.evaluator import judge
from .log import Log
from .trainer import Metrics, Trainer, due


@dataclass
class Validation:
    """Measure clean and robust accuracy of the averaged weights every few epochs.

    Adversarial training overfits: its robust accuracy falls long before the end (Rice et al.
    2020), so the weights that are most robust on images held out of training are kept beside
    the last ones. On test images nothing is kept: that would be choosing by the test set.

    Args:
        name: Of the images in the log, `val` (held out) or `test`.
        images: What is judged, on the training device.
        plan: The attack.
        every: Epochs between two measurements; 0 for none.
        log: Takes `NAME_clean`, `NAME_robust` and `best_epoch`.
        keep: Saves the weights as the best so far; None keeps none.
    """

    name: str
    images: Images
    plan: Plan
    every: int
    log: Log
    keep: Callable[[Trainer], object] | None = None
    best: float = -1.0
    best_epoch: int = 0

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        return None

    def on_epoch(self, trainer: Trainer) -> None:
        if not due(trainer, self.every):
            return
        size = min(USUAL, trainer.loader.share)
        found = judge(trainer.average.model, self.images, ["pgd"], self.plan, batch_size=size)
        self.log.extra |= {
            f"{self.name}_clean": found["clean"],
            f"{self.name}_robust": found["robust"],
        }
        if self.keep is None:
            return
        if found["robust"] > self.best:
            self.best, self.best_epoch = found["robust"], trainer.epoch
            self.keep(trainer)
        self.log.extra["best_epoch"] = self.best_epoch

    def state(self) -> dict[str, Tensor]:
        """Return the best accuracy so far and its epoch."""
        return {
            "robust": torch.tensor(self.best, dtype=torch.float64),
            "epoch": torch.tensor(self.best_epoch),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        self.best, self.best_epoch = float(state["robust"]), int(state["epoch"])
