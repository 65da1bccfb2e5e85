"""What happens around the training loop: saves, pictures, a stop on request."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

from torch import Tensor

from ..checkpoints import checkpoint, runs
from ..checkpoints.model import Model
from ..data import pictures
from ..errors import Interrupted
from ..robustness.batch_size import USUAL
from ..runtime.files import write_atomic
from ..sampling import sample
from .divergence import Guard
from .trainer import Metrics, Trainer, due


class Part(Protocol):
    """Something around the loop that an exact resume needs."""

    def state(self) -> dict[str, Tensor]:
        """Return its tensors."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""


@dataclass
class Saver:
    """Write state and model at the end of epochs, and the state every so many seconds within one.

    The state comes first: a run that is killed between the two is known by its state to be
    done, and the model is written then. An epoch that ends sooner after a save than `rare` times
    what that took is passed over, so that short epochs are not spent on saving. The state before
    the last is kept too, because the last may be of a run that was running away already.

    Args:
        folder: The run's.
        save_model: Writes `model.safetensors`.
        parts: What belongs to the state besides the trainer, by name.
        seconds: Between two saves within an epoch.
        guard: Looks at the figures before a save.
        overdue: Whether the next end of an epoch is saved in any case.
    """

    rare: ClassVar[float] = 50

    folder: Path
    save_model: Callable[[Trainer], object]
    parts: Mapping[str, Part]
    seconds: float
    guard: Guard = field(default_factory=Guard)
    overdue: bool = False
    saved: float = field(default_factory=time.monotonic)
    took: float = 0.0
    saved_step: int = -1

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        late = time.monotonic() - self.saved >= self.seconds
        if not trainer.between_epochs and trainer.ranks.any(late):
            self.guard.check()
            self.save_state(trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        late = time.monotonic() - self.saved >= min(self.seconds, self.rare * self.took)
        if trainer.finished or self.overdue or trainer.ranks.any(late):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the state and the model, if that has not been done after this step."""
        if self.saved_step == trainer.step:
            return
        began = time.monotonic()
        self.save_state(trainer)
        self.save_model(trainer)
        self._clock(began)
        self.overdue = False

    def save_state(self, trainer: Trainer) -> None:
        """Write `state.safetensors`; what it was becomes `state-before.safetensors`."""
        if trainer.ranks.leader:
            self._keep_one()
        self.save_again(trainer)

    def save_again(self, trainer: Trainer) -> None:
        """Write `state.safetensors` anew after the run has gone back, the one before left alone."""
        began = time.monotonic()
        extra = {
            f"{name}.{key}": value
            for name, part in self.parts.items()
            for key, value in part.state().items()
        }
        checkpoint.save_state(self.folder / runs.STATE_FILE, trainer, extra)
        trainer.ranks.wait()
        self._clock(began)
        self.saved_step = trainer.step

    def _clock(self, began: float) -> None:
        self.saved = time.monotonic()
        self.took = self.saved - began

    def _keep_one(self) -> None:
        """Keep the present state under the name of the one before, at no moment without it."""
        state, before = self.folder / runs.STATE_FILE, self.folder / runs.STATE_BEFORE_FILE
        if state.is_file():
            write_atomic(before, partial(_link, state))

    def last_good(self) -> str:
        """Return the file to go back to: the last state, or the one before if that failed.

        A run that has run away from its last state since it was saved has counted an attempt
        there which the state before does not have.
        """
        files = (self.folder / name for name in (runs.STATE_FILE, runs.STATE_BEFORE_FILE))
        attempts = [runs.read_header(path)["attempt"] for path in files if path.is_file()]
        failed = len(attempts) == 2 and attempts[0] > attempts[1]
        return runs.STATE_BEFORE_FILE if failed else runs.STATE_FILE

    def load_state(self, trainer: Trainer, name: str = runs.STATE_FILE) -> None:
        """Go back to a state that was saved, by default the last."""
        extra = checkpoint.load_state(self.folder / name, trainer)
        for name, part in self.parts.items():
            inside = {key: extra[key] for key in extra if key.startswith(f"{name}.")}
            part.load_state({key.removeprefix(f"{name}."): inside[key] for key in inside})


def _link(state: Path, beside: Path) -> None:
    try:
        os.link(state, beside)
    except OSError:  # a file system without hard links
        shutil.copyfile(state, beside)


@dataclass
class Grids:
    """Draw a grid of samples every few epochs, ten rows of one column a class.

    They start where the method's chains do, if it has any: from class Gaussians everything looks
    like something. Where there are ranks, each draws a part and the first writes the picture.
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
        start = model.meta.options.get("chain_start")
        drawn = sample.sample(
            model,
            num=self.rows * columns,
            classes=range(columns),
            init=start,
            batch_size=min(USUAL, trainer.loader.share),
        )
        if not trainer.ranks.leader:
            return
        path = self.folder / "samples" / f"epoch-{trainer.epoch:03d}.png"
        picture = pictures.grid(drawn.images, columns=columns, scale=4)
        pictures.save_png(picture, path, {"settings": json.dumps(drawn.settings)})


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
            self.saver.save(trainer)
            raise self._interrupted(f"after epoch {trainer.epoch}", trainer)

    def _interrupted(self, where: str, trainer: Trainer) -> Interrupted:
        return Interrupted(
            f"stopped {where} of {trainer.config.epochs}; "
            f"the state is saved in `{self.saver.folder}`",
            "the same command goes on from there",
        )
