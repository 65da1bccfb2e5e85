"""Where the time of a training step goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ..runtime.files import write_atomic
from ..runtime.progress import Reporter
from .trainer import SPANS, Metrics, Trainer

SKIPPED, MEASURED = 3, 5
TRACE_FILE = "profile.json"
_ROWS = 12


@dataclass
class Profile:
    """Measure a few steps by torch's profiler, the first ones left out.

    The trace goes to `profile.json` in the run's directory (for chrome://tracing or
    ui.perfetto.dev), and a table of the parts of a step and of the costliest operations to the
    reporter.
    """

    folder: Path
    reporter: Reporter
    steps: int = 0
    profiler: profile | None = field(default=None, init=False)

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        self.steps += 1
        if self.steps == SKIPPED:
            activities = [ProfilerActivity.CPU]
            if trainer.device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            # Its thread is this one meanwhile, so that what it launches counts as `backward`.
            torch.autograd.set_multithreading_enabled(False)
            self.profiler = profile(activities=activities, acc_events=True)
            self.profiler.start()
        elif self.steps == SKIPPED + MEASURED:
            self._report(trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        if trainer.finished and self.profiler is not None and self.steps > SKIPPED:
            self._report(trainer)
        elif trainer.finished and self.steps <= SKIPPED:
            self._stop()
            self.reporter.warn(f"a run of {self.steps} steps is too short for `--profile`")

    def _stop(self) -> profile | None:
        profiler, self.profiler = self.profiler, None
        if profiler is not None:
            profiler.stop()
            torch.autograd.set_multithreading_enabled(True)
        return profiler

    def _report(self, trainer: Trainer) -> None:
        profiler = self._stop()
        assert profiler is not None
        trace = self.folder / TRACE_FILE
        write_atomic(trace, lambda beside: profiler.export_chrome_trace(str(beside)))
        steps = min(self.steps, SKIPPED + MEASURED) - SKIPPED
        for line in table(profiler.key_averages(), steps, trainer.device.type == "cuda"):
            self.reporter.say(line)
        self.reporter.say(f"the trace is in `{trace}`")


def table(events: Any, steps: int, on_cuda: bool) -> list[str]:
    """Return the lines of the table: the parts of a step, then the costliest operations.

    Args:
        events: torch's averages over the steps.
        steps: How many were measured.
        on_cuda: Whether to tell the accelerator's time instead of the processor's.
    """
    kind = "device" if on_cuda else "cpu"
    # On CUDA there are events of the device too: the same time once more, kernel by kernel.
    events = [event for event in events if event.device_type.name == "CPU"]
    named = {event.key: event for event in events}
    parts = {name: getattr(named[name], f"{kind}_time_total") for name in SPANS if name in named}
    own = {
        event.key.removeprefix("aten::"): getattr(event, f"self_{kind}_time_total")
        for event in events
        if event.key not in SPANS and getattr(event, f"self_{kind}_time_total") > 0
    }
    # What a part does between its operations is its own; on CUDA nothing runs there.
    between = 0.0 if on_cuda else sum(named[name].self_cpu_time_total for name in parts)
    whole = sum(own.values()) + between or 1.0
    costly = sorted(own.items(), key=lambda item: -item[1])[:_ROWS]
    lines = [f"where the time goes, {steps} steps of {whole / steps / 1e6:.3f} s ({kind}):"]
    lines += [_row(name, time, whole, steps) for name, time in parts.items()]
    lines.append("the costliest operations:")
    return lines + [_row(name, time, whole, steps) for name, time in costly]


def _row(name: str, time: float, whole: float, steps: int) -> str:
    return f"  {name[:40]:<40} {time / whole:>6.1%} {time / steps / 1e3:>10.2f} ms a step"
