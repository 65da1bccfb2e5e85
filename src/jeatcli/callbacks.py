"""What happens around the training loop: the guard, the log, evaluation, pictures, saves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from . import checkpoint, data, generate, render, runs
from .attacks import Plan
from .checkpoint import Meta, Model
from .errors import Interrupted
from .evaluate import judge
from .paths import append, write_atomic
from .reporting import Bar, ignore
from .sgld import ClassStatistics
from .trainer import Metrics, Trainer

# What of the figures is worth a place beside the bar; the log has all.
SHOWN = ("loss", "accuracy", "energy_gap")


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
        for name, value in self.latest.items():
            figure = value.item()
            if not abs(figure) <= limits.get(name, torch.finfo(torch.float32).max):
                raise RanAway(f"{name} is {figure:.3g}")


@dataclass
class Log:
    """Average the figures of an epoch and write a line of `metrics.jsonl` for it."""

    folder: Path
    bar: Bar = ignore
    sums: Metrics = field(default_factory=dict)
    steps: int = 0
    extra: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    timed_steps: int = 0

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        self.sums = {
            name: self.sums[name] + value if name in self.sums else value.clone()
            for name, value in metrics.items()
        }
        self.steps += 1
        self.timed_steps += 1
        every = 10
        means = self.means() if self.steps % every == 0 else {}
        shown = {name: means[name] for name in SHOWN if name in means}
        self.bar(trainer.config.batch_size, **shown)

    def on_epoch(self, trainer: Trainer) -> None:
        images = self.timed_steps * trainer.config.batch_size
        seconds = time.perf_counter() - self.began
        figures = {**self.means(), **self.extra}
        line = {
            "epoch": trainer.epoch,
            "step": trainer.step,
            **figures,
            "lr": trainer.lr,
            "images_per_second": images / seconds,
            "seconds": seconds,
        }
        self.write(line)
        self.sums, self.steps, self.extra = {}, 0, {}
        self.restart_clock()

    @property
    def path(self) -> Path:
        """The file of the log."""
        return self.folder / "metrics.jsonl"

    def means(self) -> dict[str, float]:
        """Return the figures' averages over the epoch so far."""
        return {name: value.item() / self.steps for name, value in self.sums.items()}

    def restart_clock(self) -> None:
        """Leave out of the speed what came before now."""
        self.began, self.timed_steps = time.perf_counter(), 0

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        append(self.path, json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        """Drop the lines after `step`: the resumed run writes them again."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        text = "".join(line + "\n" for line in kept)
        write_atomic(self.path, lambda beside: beside.write_text(text, encoding="utf-8"))

    def state(self) -> dict[str, Tensor]:
        """Return the sums, for a resume within an epoch."""
        if not self.steps:
            return {}
        return {**self.sums, "steps": torch.tensor(self.steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        self.steps = int(state.get("steps", torch.tensor(0)))
        self.sums = {name: value for name, value in state.items() if name != "steps"}
        self.restart_clock()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line).get("step", 0))
    except (ValueError, AttributeError):
        return float("inf")  # half a line, from a kill


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
