"""The log of a training run, `metrics.jsonl`."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.runs import LOG_FILE
from ..runtime.files import append, write_atomic
from ..runtime.progress import Bar, ignore
from .trainer import Metrics, Trainer, numbers

# What of the figures is worth a place beside the bar; the log has all.
SHOWN = ("loss", "accuracy", "energy_gap")


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
        self.bar(trainer.loader.batch_size, **shown)

    def on_epoch(self, trainer: Trainer) -> None:
        images = self.timed_steps * trainer.loader.batch_size
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
        return self.folder / LOG_FILE

    def means(self) -> dict[str, float]:
        """Return the figures' averages over the epoch so far."""
        return {name: total / self.steps for name, total in numbers(self.sums).items()}

    def restart_clock(self) -> None:
        """Leave out of the speed what came before now."""
        self.began, self.timed_steps = time.perf_counter(), 0

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        append(self.path, json.dumps(line) + "\n")

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

    def rewind(self, step: int) -> None:
        """Drop the epochs after `step`: the resumed run writes them again."""
        if not self.path.exists():
            return
        lines = read_log(self.path)
        kept = [line for line, entry in lines if "event" in entry or entry.get("step", 0) <= step]
        text = b"".join(line + b"\n" for line in kept)
        write_atomic(self.path, lambda beside: beside.write_bytes(text))


def read_log(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Return the lines of a log that can be read, each with what it says.

    The others are half a line, from a kill or a full disk, or damaged.
    """
    lines = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict) and isinstance(entry.get("step", 0), int | float):
                lines.append((line, entry))
    return lines
