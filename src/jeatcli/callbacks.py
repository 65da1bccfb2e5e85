"""What happens around the training loop: saves, pictures, a stop on request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from . import checkpoint, generate, render, runs
from .checkpoint import Model
from .errors import Interrupted
from .guard import Guard
from .trainer import Metrics, Trainer, due


class Part(Protocol):
    """Something around the loop that an exact resume needs."""

    def state(self) -> dict[str, Tensor]:
        """Return its tensors."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""


@dataclass
class Saver:
    """Write model and state every epoch, and the state every so many seconds within one.

    The state comes first: a run that is killed between the two is known by its state to be
    done, and the model is written then.

    Args:
        folder: The run's.
        save_model: Writes `model.safetensors`.
        parts: What belongs to the state besides the trainer, by name.
        seconds: Between two saves within an epoch.
        guard: Looks at the figures before a save.
    """

    folder: Path
    save_model: Callable[[Trainer], object]
    parts: Mapping[str, Part]
    seconds: float
    guard: Guard = field(default_factory=Guard)
    saved: float = field(default_factory=time.monotonic)

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        late = time.monotonic() - self.saved >= self.seconds
        if not trainer.between_epochs and trainer.ranks.any(late):
            self.guard.check()
            self.save_state(trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        self.save_state(trainer)
        self.save_model(trainer)

    def save_state(self, trainer: Trainer) -> None:
        """Write `state.safetensors`."""
        extra = {
            f"{name}.{key}": value
            for name, part in self.parts.items()
            for key, value in part.state().items()
        }
        checkpoint.save_state(self.folder / runs.STATE_FILE, trainer, extra)
        trainer.ranks.wait()
        self.saved = time.monotonic()

    def load_state(self, trainer: Trainer) -> None:
        """Go back to the last state that was saved."""
        extra = checkpoint.load_state(self.folder / runs.STATE_FILE, trainer)
        for name, part in self.parts.items():
            inside = {key: extra[key] for key in extra if key.startswith(f"{name}.")}
            part.load_state({key.removeprefix(f"{name}."): inside[key] for key in inside})


@dataclass
class Grids:
    """Draw a grid of samples every few epochs, ten rows of one column a class.

    Where there are ranks, each draws a part and the first writes the picture.
    """

    folder: Path
    model: Callable[[Trainer], Model]
    every: int
    rows: int = 10

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        return None

    def on_epoch(self, trainer: Trainer) -> None:
        if not due(trainer, self.every):
            return
        model = self.model(trainer)
        columns = min(len(model.meta.classes), 10)
        drawn = generate.sample(model, num=self.rows * columns, classes=range(columns))
        if not trainer.ranks.leader:
            return
        path = self.folder / "samples" / f"epoch-{trainer.epoch:03d}.png"
        picture = render.grid(drawn.images, columns=columns, scale=4)
        render.save_png(picture, path, {"settings": json.dumps(drawn.settings)})


@dataclass
class Stop:
    """Leave the loop between two steps when the user asks for it.

    After the last step of an epoch what belongs to its end comes first: a run that goes on
    from there would not make up for it.
    """

    asked: Callable[[], bool]
    saver: Saver

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        if not trainer.between_epochs and trainer.ranks.any(self.asked()):
            self.saver.guard.check()
            self.saver.save_state(trainer)
            raise self._interrupted(f"in epoch {trainer.epoch + 1}", trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        if not trainer.finished and trainer.ranks.any(self.asked()):
            raise self._interrupted(f"after epoch {trainer.epoch}", trainer)

    def _interrupted(self, where: str, trainer: Trainer) -> Interrupted:
        return Interrupted(
            f"stopped {where} of {trainer.config.epochs}; "
            f"the state is saved in `{self.saver.folder}`",
            "the same command goes on from there",
        )
