"""A run that trains to its end: resumed where it was, saved, rolled back where it diverged."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from ..checkpoints import runs
from ..errors import Diverged, JeatError, no_memory
from ..robustness.attacks.batch import AttackOptions
from ..runtime import devices
from ..runtime.distributed import lost, rank_lost
from ..runtime.progress import Watched
from . import memory, setup
from .callbacks import VALIDATION_STEPS, DeltaEnergy, Grids, Stop, Validation
from .divergence import Diverging, gentler
from .log import Log
from .profiling import Profile
from .state import Saver
from .summary import doubts, summary
from .trackers import Tracking
from .trainer import Callback


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
