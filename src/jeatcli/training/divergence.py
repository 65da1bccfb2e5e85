"""The watch over a training run: it stops one that runs away."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from .trainer import Metrics, Trainer, numbers


class RanAway(Exception):
    """Training left the region from which it comes back."""


@dataclass
class Guard:
    """Stop a run that diverges, before it is saved.

    A run has run away when a logged figure is not finite, when an energy is beyond
    `most_energy` in size, or when E(x+) - E(x_K) is beyond `most_gap`: healthy runs keep the
    gap within tens, and a runaway passes 1,000 while all is still finite. Figures are read
    every `every` steps, because a look makes an accelerator wait.
    """

    most_energy: float = 1e4
    most_gap: float = 1e3
    every: ClassVar[int] = 10
    latest: Metrics = field(default_factory=dict)

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        self.latest = metrics
        if trainer.step % self.every == 0:
            self.check()

    def on_epoch(self, trainer: Trainer) -> None:
        self.check()

    def check(self) -> None:
        """Look at the latest figures.

        Raises:
            RanAway: Saying which figure is beyond its bound.
        """
        limits = {"energy": self.most_energy, "energy_sgld": self.most_energy}
        limits["energy_gap"] = self.most_gap
        for name, figure in numbers(self.latest).items():
            if not abs(figure) <= limits.get(name, torch.finfo(torch.float32).max):
                raise RanAway(f"{name} is {figure:.3g}")
