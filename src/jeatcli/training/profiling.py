"""Where the time of a training step goes."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from ..runtime.files import write_atomic
from ..runtime.progress import Reporter
from ..runtime.words import counted
from .trainer import Callback, Metrics, Trainer

SKIPPED, MEASURED = 3, 5
TRACE_FILE = "profile.json"
_ROWS = 20


@dataclass
class Profile(Callback):
    """Profile a few steps, the first ones left out.

    The trace goes to `profile.json` in the run's directory (for chrome://tracing or
    ui.perfetto.dev), torch's table of the parts of a step (attack, chain, loss, backward,
    optimizer, average) and of its costliest operations to the reporter.
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
        if trainer.finished and self.steps < SKIPPED + MEASURED:
            self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        profiler, self.profiler = self.profiler, None
        if profiler is not None:
            profiler.stop()
            torch.autograd.set_multithreading_enabled(True)
        if profiler is None or self.steps == SKIPPED:
            steps = counted(self.steps, "step")
            self.reporter.warn(f"a run of {steps} is too short for `--profile`")
            return
        trace = self.folder / TRACE_FILE
        write_atomic(trace, lambda beside: profiler.export_chrome_trace(str(beside)))
        kind = "device" if trainer.device.type == "cuda" else "cpu"
        table = profiler.key_averages().table(
            sort_by=f"{kind}_time_total", row_limit=_ROWS, max_name_column_width=40
        )
        steps = counted(self.steps - SKIPPED, "step")
        self.reporter.say(f"where the time goes, {steps} ({kind}):\n{table}")
        self.reporter.say(f"the trace is in `{trace}`")
