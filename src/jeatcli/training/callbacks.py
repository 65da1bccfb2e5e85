"""What happens around the training loop: saves, pictures, a stop on request."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.model import Model
from ..data import pictures
from ..errors import Interrupted
from ..robustness.batch_size import USUAL
from ..sampling import sample
from .state import Saver
from .trainer import Metrics, Trainer, due


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
            classes=tuple(range(columns)),
            init=start,
            batch_size=min(USUAL, trainer.loader.share),
        )
        if not trainer.ranks.is_main:
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
