"""A training run from its configuration to its directory: new, resumed, or refused."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..acceleration.ways import instead_of
from ..checkpoints import runs
from ..errors import UsageProblem
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.files import check_writable
from ..runtime.progress import SILENT, Reporter
from ..runtime.usual_state import in_usual_state
from . import run_dir, setup
from .resolve import resolve
from .run import TrainingRun
from .settings import TrainConfig
from .trackers import check_trackers


@dataclass(frozen=True)
class TrainResult:
    """What `train` did.

    Args:
        run: The run's directory.
        epochs: How many the run has completed; one within which it ended counts too.
        images: How many the network has seen, in all attempts of this call.
        seconds: How long this call took.
        metrics: The last line of `metrics.jsonl`.
        device, precision, kernel, compiled, seed, version: What the run was trained with.
        already_done: Whether there was nothing left to do.
    """

    run: str
    epochs: int
    images: int
    seconds: float
    metrics: dict[str, Any]
    device: str
    precision: str
    kernel: str
    compiled: bool
    seed: int
    version: str
    already_done: bool = False


@in_usual_state
def train(
    config: TrainConfig | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    profile: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train a run to its end, from its start or its last save.

    Args:
        config: Every setting; or some by name, the others at their defaults for these.
        out: The run's name or path; by default `DATASET-METHOD-ARCH` in the runs directory.
        data_dir, device, reporter: Where the data are, where to compute, what gets the progress.
        force, profile: Start over, the old run kept as `NAME~1`; measure where the time goes.
        should_stop: Asked between steps, also of attacks and chains; True saves and stops.

    Raises:
        JeatError: If the run exists with other settings, or the data or the device is at fault.
        Diverged, Interrupted, RankLost: If it diverged too often, was stopped, or lost a process.

    Examples:
        >>> from jeatcli import train
        >>> train({"method": "at", "dataset": "digits", "limit": 64, "epochs": 1}).images
        64
    """
    began = time.perf_counter()
    config = resolve(config)
    check_trackers(config.track)
    here, ranks = devices.pick(device), current()
    reporter = reporter if ranks.is_main else SILENT
    folder, config, epochs = ranks.from_main(partial(_find, config, out, here, force, reporter))
    seen, already_done = 0, epochs is not None
    if already_done:
        reporter.say(f"`{folder}` is done; `--force` starts it over")
    else:
        build = partial(setup.build, config, folder, here, data_dir=data_dir, reporter=reporter)
        ready = build(ranks=ranks, should_stop=should_stop)
        with ExitStack() as held:
            ranks.from_main(partial(_hold, held, ready, force))
            run = TrainingRun(ready, should_stop, profile)
            run.complete()
        config, seen, epochs = run.config, run.seen, ready.trainer.epoch
    return TrainResult(
        run=str(folder),
        epochs=epochs or 0,
        images=seen,
        seconds=time.perf_counter() - began,
        metrics=[{}, *(entry for _, entry in runs.read_log(folder / runs.LOG_FILE))][-1],
        device=str(here),
        precision=config.precision,
        kernel=config.kernel,
        compiled=bool(config.compile),
        seed=config.seed,
        version=version("jeat-cli"),
        already_done=already_done,
    )


def _find(
    config: TrainConfig,
    out: str | Path | None,
    device: torch.device,
    force: bool,
    reporter: Reporter,
) -> tuple[Path, TrainConfig, int | None]:
    """Return the run's directory, the settings to continue with, and its epochs if it is done."""
    folder = run_dir.new_place(out, config, force)
    if force and config.init_from and runs.resolve(config.init_from).parent == folder:
        raise UsageProblem(
            f"`{folder}` cannot start over with its own weights", "start another run with `-o NAME`"
        )
    asked = config.kernel
    config = config if force else run_dir.compare(folder, config)
    epochs = None if force else run_dir.epochs_done(folder, config)
    if epochs is None:
        check_writable(folder / runs.CONFIG_FILE)
        if config.kernel in instead_of(asked):
            reporter.say(f"the run goes on as it began, with `--kernel {config.kernel}`")
    dtype = devices.autocast_type(config.precision, device)
    return folder, replace(config, precision=devices.precision_name(dtype)), epochs


def _hold(held: ExitStack, ready: setup.Setup, force: bool) -> None:
    """Make the run's directory and lock it."""
    folder = ready.folder
    if force:
        run_dir.set_aside(folder)
    run_dir.create(folder, ready.trainer.config)
    held.enter_context(run_dir.locked(folder, ready.reporter))
    run_dir.compare_again(folder, ready.trainer.config)
