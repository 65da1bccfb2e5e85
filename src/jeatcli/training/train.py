"""A training run from its configuration to its directory: new, resumed, or refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import runs
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.files import check_writable
from ..runtime.progress import SILENT, Reporter
from . import run_dir
from .settings import TrainConfig
from .setup import Stage
from .survival import Survivor


@dataclass(frozen=True)
class TrainResult:
    """What `train` did.

    Args:
        run: The run's directory.
        epochs: That the run has behind it; one within which it ended counts as one.
        images: That the network has seen, all attempts of this call counted.
        seconds: Of this call.
        metrics: The last line of `metrics.jsonl`.
        device, precision, seed, version: Of the computation.
        already_done: Whether there was nothing left to do.
    """

    run: str
    epochs: int
    images: int
    seconds: float
    metrics: dict[str, Any]
    device: str
    precision: str
    seed: int
    version: str
    already_done: bool = False


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    profile: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train a run to its end, from where it is.

    Args:
        config: Every setting (`config.resolve`).
        out: The run's name or path; by default `DATASET-METHOD-ARCH` in the runs directory.
        data_dir: Where the data sets are.
        device: Where to compute.
        force: Start over, even if the run is there with other settings; the old one is kept
            beside it, as `NAME~1`.
        profile: Measure where the time of a few steps goes: a table to the reporter, a trace to
            `profile.json` in the run's directory.
        should_stop: Asked after every step; True saves and raises `Interrupted`.
        reporter: Listens to the progress.

    Raises:
        JeatError: If the run is there with other settings, or data or device are at fault.
        Diverged: If the run ran away more often than `config.retries`.
        Interrupted: If it was stopped.
        RankLost: If another of the processes that `torchrun` started has died.
    """
    began = time.perf_counter()
    place, ranks = devices.pick(device), current()
    reporter = reporter if ranks.is_main else SILENT
    folder, config, epochs = ranks.from_main(partial(_find, config, out, place, force))
    seen, already_done = 0, epochs is not None
    if already_done:
        reporter.say(f"`{folder}` is done; `--force` starts it over")
    else:
        if config.val_split and not config.eval_every:
            reporter.warn(
                f"{config.val_split:,} training images are held out, and nothing is judged by them "
                "with `--eval-every 0`; `--val-split 0` trains on them"
            )
        stage = Stage(config, folder, place, data_dir, reporter, ranks)
        with ExitStack() as held:
            ranks.from_main(partial(_hold, held, stage, force))
            survivor = Survivor(stage, should_stop, profile)
            survivor.run()
        seen, epochs = survivor.seen, stage.trainer.epoch
    return TrainResult(
        run=str(folder),
        epochs=epochs or 0,
        images=seen,
        seconds=time.perf_counter() - began,
        metrics=run_dir.last_line(folder),
        device=str(place),
        precision=config.precision,
        seed=config.seed,
        version=version("jeat-cli"),
        already_done=already_done,
    )


def _find(
    config: TrainConfig, out: str | Path | None, device: torch.device, force: bool
) -> tuple[Path, TrainConfig, int | None]:
    """Return the run's directory, the settings to go on with, and its epochs if it is done."""
    folder = runs.place(out or run_dir.run_name(config))
    if not folder.is_dir():
        check_writable(folder / runs.CONFIG_FILE)
    config = config if force else run_dir.compare(folder, config)
    epochs = None if force else run_dir.epochs_done(folder)
    return folder, _with_precision(config, device), epochs


def _hold(held: ExitStack, stage: Stage, force: bool) -> None:
    """Make the run's directory, keep other processes off it, and clear a dead one's litter."""
    folder = stage.folder
    if force:
        run_dir.set_aside(folder)
    run_dir.create(folder, stage.config)
    held.enter_context(run_dir.locked(folder, stage.reporter))
    run_dir.clear_stale(folder)


def _with_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Return the configuration with `auto` replaced by what this device does best."""
    dtype = devices.autocast_type(config.precision, device)
    return replace(config, precision=devices.precision_name(dtype))
