"""How many epochs fit into a time, by the speed of a few steps."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..checkpoints import runs
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Reporter
from . import run_dir, setup
from .resolve import read_config
from .settings import TrainConfig

# Steps that are measured, after one that is not.
_TIMED = 5
# What is left of the time for evaluations, grids and saves.
_RESERVE = 0.15


def fit_to_budget(
    config: TrainConfig,
    seconds: float,
    out: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> TrainConfig:
    """Return the configuration with the epochs, or steps, that fit into the time.

    A run that exists keeps its epochs, so that the same command resumes it. `out`, `data_dir` and
    `device` are those of `train`.
    """
    ranks, folder = current(), runs.place(out or run_dir.run_name(config))
    if ranks.from_main((folder / runs.CONFIG_FILE).is_file):
        theirs = ranks.from_main(lambda: read_config(folder / runs.CONFIG_FILE))
        return replace(config, epochs=theirs.epochs, max_steps=theirs.max_steps)
    chosen = devices.pick(device)
    dtype = devices.autocast_type(config.precision, chosen)
    exact = replace(config, epochs=_TIMED + 1, precision=devices.precision_name(dtype))
    fitted, step = config, 0.0
    way: tuple[str, bool | None] = ("", None)
    # The second time, the way of computing the network is that of a run as long as the first says.
    for _ in range(2):
        ready = setup.build(
            exact, folder, chosen, data_dir=data_dir, reporter=reporter, ranks=ranks
        )
        before, way = way, (ready.trainer.config.kernel, ready.trainer.config.compile)
        if way == before:
            break
        measured = _seconds_per_step(ready)
        step = ranks.from_main(partial(float, measured))
        steps = max(1, int((1 - _RESERVE) * seconds / step))
        epochs = steps // len(ready.trainer.loader)
        fitted = replace(config, epochs=max(1, epochs), max_steps=0 if epochs else steps)
        exact = replace(fitted, precision=exact.precision)
        if config.kernel != "auto" and config.compile is not None:
            break
    if ranks.is_main:
        length = (
            f"{epochs} epoch{'s' * (epochs > 1)}" if epochs else f"part of an epoch ({steps} steps)"
        )
        reporter.say(f"{length} in the budget, at {step:.3g} s per step")
    return replace(fitted, kernel=way[0], compile=way[1])


def _seconds_per_step(ready: setup.Setup) -> float:
    trainer = ready.trainer
    times: list[float] = []
    while len(times) <= _TIMED:
        for x, y in trainer.loader.epoch(trainer.epoch):
            float(trainer.update(x, y)["loss"])  # waits for the device
            times.append(time.perf_counter())
            if len(times) > _TIMED:
                break
    return (times[-1] - times[0]) / _TIMED
