"""What happens around the training loop: saves, evaluation, pictures, a stop on request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import checkpoint, data, generate, render, runs
from .attacks import Plan
from .checkpoint import Meta, Model
from .errors import Interrupted
from .evaluate import judge
from .guard import Guard
from .log import Log
from .sgld import ClassStatistics
from .trainer import Metrics, Trainer


@dataclass
class Saver:
    """Write the model every epoch, and the state every epoch and every so many seconds."""

    folder: Path
    describe: Callable[[Trainer], Meta]
    statistics: ClassStatistics
    log: Log
    seconds: float
    guard: Guard = field(default_factory=Guard)
    saved: float = field(default_factory=time.monotonic)

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        if time.monotonic() - self.saved >= self.seconds and not trainer.between_epochs:
            self.guard.check()
            self.save_state(trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        self.save_model(trainer)
        self.save_state(trainer)

    def save_model(self, trainer: Trainer) -> None:
        """Write `model.safetensors`, with the averaged weights."""
        path = self.folder / runs.MODEL_FILE
        checkpoint.save_model(path, trainer.average.model, self.describe(trainer), self.statistics)

    def save_state(self, trainer: Trainer) -> None:
        """Write `state.safetensors`."""
        checkpoint.save_state(self.folder / runs.STATE_FILE, trainer, self.log.state())
        self.saved = time.monotonic()

    def load_state(self, trainer: Trainer) -> None:
        """Go back to the last state that was saved."""
        self.log.load_state(checkpoint.load_state(self.folder / runs.STATE_FILE, trainer))
        self.log.rewind(trainer.step)


@dataclass
class Evaluation:
    """Measure accuracy on the first test images every few epochs, and at the end."""

    images: data.Images
    plan: Plan
    every: int
    log: Log

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        return None

    def on_epoch(self, trainer: Trainer) -> None:
        if due(trainer, self.every):
            found = judge(trainer.average.model, self.images, ["pgd"], self.plan)
            self.log.extra |= {"test_clean": found["clean"], "test_robust": found["robust"]}


@dataclass
class Grids:
    """Draw a grid of samples every few epochs, ten rows of one column a class."""

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
        if not trainer.between_epochs and self.asked():
            self.saver.guard.check()
            self.saver.save_state(trainer)
            raise self._interrupted(f"in epoch {trainer.epoch + 1}", trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        if not trainer.finished and self.asked():
            raise self._interrupted(f"after epoch {trainer.epoch}", trainer)

    def _interrupted(self, where: str, trainer: Trainer) -> Interrupted:
        return Interrupted(
            f"stopped {where} of {trainer.config.epochs}; "
            f"the state is saved in `{self.saver.folder}`",
            "the same command goes on from there",
        )


def due(trainer: Trainer, every: int) -> bool:
    """Return whether something done every so many epochs is due; at the end it always is."""
    return bool(every) and (trainer.epoch % every == 0 or trainer.finished)
