"""The log of a training run, `metrics.jsonl`."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.runs import read_log
from ..runtime.files import append, write_atomic
from ..runtime.progress import SILENT, Bar, Reporter, ignore
from ..runtime.words import counted
from .trainer import Callback, Metrics, Trainer, numbers

# Steps that estimate the length of a run, after the first, which may wait for a compiler.
_TIMED = 5
# An epoch of fewer seconds has a line only if it was evaluated.
_SHORT = 5.0
# A run that is estimated to take longer is announced, after its first step if that took so long.
_LONG, _SLOW = 120.0, 30.0


@dataclass
class Log(Callback):
    """Average the metrics of an epoch and write a line of `metrics.jsonl` for it."""

    path: Path
    reporter: Reporter = SILENT
    bar: Bar = ignore
    sums: Metrics = field(default_factory=dict)
    # How many steps each sum is of: DAT has no energies in its first stage.
    counts: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    extra: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    timed_steps: int = 0
    _seen: int = 0
    _first: float = 0.0
    _announced: bool = False

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        self.sums = self.sums | {
            name: self.sums[name] + value if name in self.sums else value.clone()
            for name, value in metrics.items()
        }
        self.counts = self.counts | {name: self.counts.get(name, 0) + 1 for name in metrics}
        self.steps += 1
        self.timed_steps += 1
        # Reading the metrics makes an accelerator wait.
        every = 1 if trainer.device.type == "cpu" else 10
        means = self.means() if self.steps % every == 0 or trainer.finished else {}
        self.bar(trainer.loader.batch_size, **_shown(trainer, means))
        self._announce(trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        images = self.timed_steps * trainer.loader.batch_size
        seconds = time.perf_counter() - self.began
        figures = {**self.means(), **self.extra}
        line = {"epoch": trainer.epoch, "step": trainer.step, **figures, "lr": trainer.lr}
        self.write(line | {"images_per_second": images / seconds, "seconds": seconds})
        # Short epochs would scroll everything else away.
        shown = seconds >= _SHORT or "test_clean" in figures or "val_clean" in figures
        (self.reporter.say if shown else self.reporter.detail)(_epoch_line(trainer, line))
        self.sums, self.counts, self.steps, self.extra = {}, {}, 0, {}
        self.restart_clock()

    def _announce(self, trainer: Trainer) -> None:
        """Say once how long the run will take, if that is long."""
        self._seen += 1
        now = time.perf_counter()
        steps, took = _TIMED, now - self._first
        if self._seen == 1:
            self._first, steps, took = now, 1, now - self.began
        # Nobody should wait minutes to hear that it will be months; but a first step may compile.
        soon = steps == 1 and took > _SLOW and not trainer.config.compile
        if self._announced or not (self._seen == 1 + _TIMED or soon):
            return
        left = took / steps * (trainer.steps - trainer.step)
        if left > _LONG:
            self._announced = True
            less = "1m" if left < 600 else "10m" if left < 7200 else "1h"
            new = trainer.step == self._seen
            about = f"about {duration(left)} {'' if new else 'left '}on this"
            hint = f"; `--budget {less}` for less" if new else ""
            how = f"{trainer.device.type.upper()} (measured on {counted(steps, 'step')})"
            self.reporter.say(f"{about} {how}{hint}")

    def means(self) -> dict[str, float]:
        """Return the metrics' averages over the steps of this epoch that had them."""
        return {name: total / self.counts[name] for name, total in numbers(self.sums).items()}

    def restart_clock(self) -> None:
        """Measure the speed from now on."""
        self.began, self.timed_steps = time.perf_counter(), 0

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        append(self.path, json.dumps(line) + "\n")

    def state(self) -> dict[str, Tensor]:  # for a resume within an epoch
        if not self.steps:
            return {}
        fewer = {name: count for name, count in self.counts.items() if count != self.steps}
        counts = {f"steps.{name}": torch.tensor(count) for name, count in fewer.items()}
        return {**self.sums, **counts, "steps": torch.tensor(self.steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        counts = {name: int(value) for name, value in state.items() if name.startswith("steps")}
        self.steps = counts.get("steps", 0)
        self.sums = {name: value for name, value in state.items() if name not in counts}
        self.counts = {name: counts.get(f"steps.{name}", self.steps) for name in self.sums}
        self.restart_clock()

    def rewind(self, step: int, attempt: int) -> None:
        """Drop epochs that end after `step` and later divergences: the run writes them again.

        A run that died as it rolled back has the divergence in its log, not in its state.
        """
        if not self.path.exists():
            return
        lines = read_log(self.path)
        kept = [
            line
            for line, entry in lines
            if entry.get("attempt", 0) <= attempt
            and ("event" in entry or entry.get("step", 0) <= step)
        ]
        text = b"".join(line + b"\n" for line in kept)
        write_atomic(self.path, lambda beside: beside.write_bytes(text))


def _shown(trainer: Trainer, means: Mapping[str, float]) -> dict[str, float | str]:
    """Return the figures that stand beside the bar."""
    epoch = (max(trainer.step, 1) - 1) // len(trainer.loader) + 1  # of the last step
    shown: dict[str, float | str] = {"epoch": f"{epoch}/{trainer.config.epochs}"}
    if "loss" in means:
        shown["loss"] = means["loss"]
    if "accuracy" in means:
        shown[f"{trainer.method.accuracy} accuracy (training)"] = (
            f"{means['accuracy']:.1%}".replace("%", " %")
        )
    if "energy_gap" in means:
        shown["energy gap"] = means["energy_gap"]
    return shown


def _epoch_line(trainer: Trainer, line: Mapping[str, Any]) -> str:
    """Write what an epoch has come to, short enough for a terminal of 80 columns."""
    parts = [f"epoch {trainer.epoch}/{trainer.config.epochs}", f"loss {line['loss']:.3g}"]
    if "accuracy" in line:
        parts.append(f"train {100 * line['accuracy']:.1f} % {trainer.method.accuracy}")
    for name in ("test", "val"):
        if f"{name}_clean" in line:
            clean, robust = 100 * line[f"{name}_clean"], 100 * line[f"{name}_robust"]
            parts.append(f"{name} {clean:.1f} % clean, {robust:.1f} % robust")
    return "  ".join(parts)


def accuracy_text(line: Mapping[str, Any]) -> str:
    """Write the accuracies in a line of the log, empty if it has none."""
    for name, images in (("test", "test"), ("val", "held-out")):
        clean, robust = line.get(f"{name}_clean"), line.get(f"{name}_robust")
        if isinstance(clean, float) and isinstance(robust, float):
            return f"{images} accuracy {clean:.2%} clean, {robust:.2%} robust".replace("%", " %")
    return ""


def duration(seconds: float) -> str:
    """Write a duration as `3 h 10 min`, `12 days` or `40 s`."""
    if seconds >= 48 * 3600:
        return f"{round(seconds / 86400):,} days"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes >= 2 else f"{round(seconds)} s"
