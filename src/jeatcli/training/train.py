"""A training run from its configuration to its directory: new, resumed, retried, or refused."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..acceleration.ways import instead_of
from ..checkpoints import runs
from ..errors import Diverged, JeatError, UsageProblem, no_memory
from ..robustness.attacks.batch import AttackOptions
from ..runtime import devices
from ..runtime.distributed import current, lost, rank_lost
from ..runtime.files import check_writable
from ..runtime.progress import SILENT, Reporter, Watched
from ..runtime.usual_state import in_usual_state
from . import memory, run_dir, setup
from .callbacks import VALIDATION_STEPS, DeltaEnergy, Grids, Stop, Validation
from .divergence import Diverging, gentler
from .log import Log
from .profiling import Profile
from .resolve import resolve
from .settings import TrainConfig
from .state import Saver
from .summary import doubts, summary
from .trackers import Tracking, check_trackers
from .trainer import Callback


@dataclass(frozen=True)
class TrainResult:
    """What `train` did.

    Args:
        run: The run's directory.
        epochs: That the run has behind it; one within which it ended counts as one.
        images: That the network has seen, all attempts of this call counted.
        seconds: Of this call.
        metrics: The last line of `metrics.jsonl`.
        device, precision, kernel, compiled, seed, version: Of the computation.
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
        data_dir, device, reporter: Where the data sets are, where to compute, and who is told.
        force, profile: Start over, the old run kept as `NAME~1`; measure where the time goes.
        should_stop: Asked between steps, also of attacks and chains; True saves and stops.

    Raises:
        JeatError: If the run is there with other settings, or data or device are at fault.
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


class TrainingRun:
    """One call of `train`: it resumes, trains, saves, and rolls back where the run diverged.

    Where `should_stop` returns True, it saves and raises `Interrupted`.
    """

    def __init__(
        self, ready: setup.Setup, should_stop: Callable[[], bool], profile: bool = False
    ) -> None:
        self.setup, self.trainer, self.should_stop = ready, ready.trainer, should_stop
        self.config, self.seen = ready.trainer.config, 0
        self.profile = [Profile(ready.folder, ready.reporter)] if profile else []
        self.log = Log(ready.folder / runs.LOG_FILE, ready.reporter)
        held_out = self.config.val_split > 0
        self.validation = Validation(
            "val" if held_out else "test",
            ready.evaluated,
            AttackOptions(ready.meta.threat, steps=VALIDATION_STEPS, seed=self.config.seed),
            self.config.eval_every,
            self.log,
            self._keep_best if held_out else None,
        )
        self.delta = DeltaEnergy(self.log, ready.reporter)
        self.tracking = Tracking(self.log.path, ready.reporter)
        parts = {"log": self.log, "best": self.validation, "delta": self.delta}
        self.saver = Saver(ready.folder, ready.save, parts, self.config.save_every)

    def _keep_best(self) -> None:
        """Save the weights as the best so far, and soon the state that knows them to be."""
        self.setup.save(runs.BEST_FILE)
        self.saver.overdue = True

    def complete(self) -> None:
        """Train to the end."""
        trainer, reporter, folder = self.trainer, self.setup.reporter, self.setup.folder
        for line in summary(trainer):
            reporter.say(line)
        devices.tell_if_emulated(self.config.precision, trainer.device, reporter)
        for doubt in doubts(self.config, self.setup.meta):
            reporter.warn(doubt)
        if trainer.ranks.from_main((folder / runs.STATE_FILE).exists):
            self._load_state()
            reporter.say(f"continuing `{folder}` from step {trainer.step:,}")
        else:
            self.setup.take_first_weights()
            self.saver.save_state(trainer)
        # The state may be there while its model is lost or damaged.
        if trainer.finished and not self.epoch_ends:
            self.saver.save_model()
        label, size = f"train {self.config.method}", trainer.loader.batch_size
        with self.tracking.opened(trainer) if trainer.ranks.is_main else nullcontext():
            while self.epoch_ends or not trainer.finished:
                done, total = trainer.step * size, trainer.steps * size
                with reporter.track(label, total, done=done) as self.log.bar:
                    self._attempt()

    @property
    def epoch_ends(self) -> bool:
        """Whether the last epoch is without its evaluations, its line in the log and its model."""
        # The other processes have no log but what they loaded with the state.
        begun = self.trainer.ranks.from_main(lambda: self.log.steps > 0)
        return self.trainer.between_epochs and begun

    def _attempt(self) -> None:
        """Train; where the run diverges, roll back to the last good state, at half the rate."""
        start, reason, exhausted = self.trainer.step, "", False
        try:
            self.trainer.fit(self.callbacks(), self.epoch_ends)
        except Diverging as problem:
            reason = str(problem)
        except RuntimeError as problem:  # torch.OutOfMemoryError is one
            if lost(problem):
                raise rank_lost() from problem
            if not no_memory(problem):
                raise
            exhausted = True
        if exhausted:  # Not above, where the traceback still holds the tensors of the failed step.
            raise memory.too_large(self.trainer)
        self.seen += (self.trainer.step - start) * self.trainer.loader.batch_size
        if reason:
            self._roll_back(reason)

    def _load_state(self, name: str = runs.STATE_FILE, attempts: int = 0) -> None:
        """Load a state, in every process before the first may write another in its place.

        The log keeps as many divergences as the state knows of, or as there were `attempts`.
        """
        trainer, folder = self.trainer, self.setup.folder
        self.saver.go_back(trainer, name)
        if len(set(trainer.ranks.collect((trainer.step, trainer.attempt)))) > 1:
            raise JeatError(
                f"the processes found different states in `{folder}`",
                "use `-o` to put the run on a disk that all machines share",
            )
        last = trainer.step - self.epoch_ends  # of an epoch that ends again, the line is dropped
        if trainer.ranks.is_main:
            self.log.rewind(last, max(trainer.attempt, attempts))

    def _roll_back(self, reason: str) -> None:
        trainer, step, best = self.trainer, self.trainer.step, self.validation.state()
        attempt = trainer.attempt + 1
        self._load_state(trainer.ranks.from_main(self.saver.last_good), trainer.attempt)
        # The best weights so far are those of `best.safetensors`, however far the run rolls back.
        self.validation.load_state(best)
        trainer.attempt = attempt
        event = {"event": "diverged", "step": trainer.step, "attempt": attempt, "reason": reason}
        if trainer.ranks.is_main:
            self.log.write({**event, "diverged_at": step, "lr": trainer.lr})
        if attempt > self.config.retries:
            raise Diverged(
                f"training diverged at step {step:,} ({reason})"
                f"{f', {attempt} times in all' if attempt > 1 else ''}; "
                f"the last good state is kept in `{self.setup.folder}`",
                "start another run with `-o NAME`, and "
                f"{gentler(self.config.options, self.config.precision)}",
            )
        self.saver.save_again(trainer)
        self.setup.reporter.warn(
            f"training diverged at step {step:,} ({reason}); "
            f"back to step {trainer.step:,} with a new seed and half the learning rate"
        )

    def callbacks(self) -> Sequence[Callback]:
        """Return the callbacks in order; only the first process keeps the log."""
        saver, stop = self.saver, Stop(self.should_stop, self.saver, self.trainer)
        grids = Grids(self.setup, self.config.sample_every)
        if self.trainer.ranks.size == 1:
            grids.reporter = self.validation.reporter = Watched(stop.at_epoch_end)
        begin, log = (self.profile, [self.log]) if self.trainer.ranks.is_main else ([], [])
        between = [saver.divergence, self.validation, self.delta, grids]
        return [*begin, *between, *log, self.tracking, saver, stop]
