"""How many epochs fit into a time, by the speed of a few steps."""

import math
import time
from dataclasses import replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path

import torch

from ..checkpoints import runs
from ..core.models.classifier import frozen
from ..data.images import to_unit_range
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Reporter
from ..runtime.words import counted
from . import run_dir, setup
from .callbacks import VALIDATION_STEPS
from .resolve import read_config
from .settings import TrainConfig

# Steps that are measured, after one that is not.
_TIMED = 5
# The most epochs that a run may have.
_MOST = 1_000_000
# What is left of the time for grids and saves.
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
    exact = replace(config, epochs=_TIMED + 1, max_steps=0, precision=devices.precision_name(dtype))
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
        measured = _seconds_per_step(ready), _seconds_per_validation(ready)
        if config.kernel != "auto":  # what is not possible is said once
            config = replace(config, kernel=way[0])
        step, validation = ranks.from_main(partial(tuple, measured))
        room, epoch = (1 - _RESERVE) * seconds, len(ready.trainer.loader) * step
        epochs = _epochs(room, epoch, validation, config.eval_every)
        steps = max(1, int((room - validation) / step))
        fitted = replace(config, epochs=max(1, epochs), max_steps=0 if epochs else steps)
        exact = replace(fitted, precision=exact.precision)
        if config.kernel != "auto" and config.compile is not None:
            break
    if ranks.is_main:
        length = (
            counted(epochs, "epoch") if epochs else f"part of an epoch ({counted(steps, 'step')})"
        )
        reporter.say(f"{length} in the budget, at {step:.3g} s per step")
    return replace(fitted, kernel=way[0], compile=way[1])


def _epochs(room: float, epoch: float, validation: float, every: int) -> int:
    """Return how many epochs take `room` seconds, evaluated every few of them and in the end."""
    epochs = min(_MOST, int(room / (epoch + (validation / every if every else 0.0))))
    while every and epochs and epochs * epoch + math.ceil(epochs / every) * validation > room:
        epochs -= 1
    return epochs


def _seconds_per_validation(ready: setup.Setup) -> float:
    """Return how long an evaluation takes if no image breaks early, by one of its passes."""
    if not ready.trainer.config.eval_every:
        return 0.0
    images, model = ready.evaluated, ready.trainer.average.model
    x = to_unit_range(images.x[: devices.images_at_once(images.x.shape, images.x.device)])
    times: list[float] = []
    with frozen(model) as still:
        for _ in range(3):
            began, moved = time.perf_counter(), x.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(still(moved).sum(), moved)
            float(gradient.sum())  # waits for the device
            times.append(time.perf_counter() - began)
    passes = (VALIDATION_STEPS + 1) * len(images) / len(x)
    return min(times) * passes / ready.trainer.ranks.size  # the processes share the images


def _seconds_per_step(ready: setup.Setup) -> float:
    trainer = ready.trainer
    times: list[float] = []
    epochs = (trainer.loader.epoch(trainer.epoch) for _ in count())
    for x, y in islice(chain.from_iterable(epochs), 1 + _TIMED):
        float(trainer.update(x, y)["loss"])  # waits for the device
        times.append(time.perf_counter())
    return (times[-1] - times[0]) / _TIMED
