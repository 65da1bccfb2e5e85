"""A run from where it is to its end, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from ..checkpoints import runs
from ..errors import Diverged, JeatError, no_memory
from ..robustness.attacks.batch import Plan
from ..runtime.distributed import lost, rank_lost
from . import memory
from .callbacks import Grids, Stop
from .divergence import RanAway
from .log import Log
from .profiling import Profile
from .setup import Stage
from .state import Saver
from .trainer import Callback, Trainer
from .validation import Validation

VALIDATION_STEPS = 10


class Survivor:
    """One call of `train`: it resumes, trains, saves, and goes back where the run ran away.

    Args:
        stage: What the run is made of.
        should_stop: Asked after every step; True saves and raises `Interrupted`.
        profile: Whether to measure where the time of some steps goes.
    """

    def __init__(
        self, stage: Stage, should_stop: Callable[[], bool], profile: bool = False
    ) -> None:
        self.stage, self.trainer, self.config = stage, stage.trainer, stage.config
        self.should_stop = should_stop
        self.profile = [Profile(stage.folder, stage.reporter)] if profile else []
        self.seen = 0
        self.log = Log(stage.folder)
        self.validation = self._validation()
        self.saver = Saver(
            stage.folder,
            partial(stage.save, runs.MODEL_FILE),
            {"log": self.log, "best": self.validation},
            self.config.save_every,
        )

    def _validation(self) -> Validation:
        stage, held_out = self.stage, self.config.val_split > 0
        return Validation(
            "val" if held_out else "test",
            stage.judged,
            Plan(stage.describe(None).threat, steps=VALIDATION_STEPS, seed=self.config.seed),
            self.config.eval_every,
            self.log,
            self._keep_best if held_out else None,
        )

    def _keep_best(self, trainer: Trainer) -> None:
        """Save the weights as the best so far, and soon the state that knows them to be."""
        self.stage.save(runs.BEST_FILE, trainer)
        self.saver.overdue = True

    def run(self) -> None:
        """Train to the end.

        Raises:
            JeatError: If a batch does not fit into memory.
            Diverged: If the run ran away more often than `config.retries`.
            Interrupted: If it was stopped.
        """
        trainer, stage = self.trainer, self.stage
        if stage.ranks.from_main((stage.folder / runs.STATE_FILE).exists):
            self._go_to_state()
            stage.reporter.say(f"going on with `{stage.folder}` from step {trainer.step:,}")
        else:
            self.saver.save_state(trainer)
        # The state may be there while its model is lost or damaged.
        if trainer.finished:
            self.saver.save_model(trainer)
        label, size = f"train {self.config.method}", trainer.loader.batch_size
        total = trainer.steps * size
        while not trainer.finished:
            with stage.reporter.track(label, total, done=trainer.step * size) as self.log.bar:
                self._attempt()

    def _attempt(self) -> None:
        """Train; where the run runs away, go back to the last good state, at half the rate."""
        first, reason, exhausted = self.trainer.step, "", False
        try:
            self.trainer.fit(self._callbacks())
        except RanAway as problem:
            reason = str(problem)
        except (torch.OutOfMemoryError, RuntimeError) as problem:
            if lost(problem):
                raise rank_lost() from problem
            if not no_memory(problem):
                raise
            exhausted = True
        if exhausted:  # Here, for the error's traceback holds the tensors of the step that failed.
            raise memory.too_large(self.trainer)
        self.seen += (self.trainer.step - first) * self.trainer.loader.batch_size
        if reason:
            self._go_back(reason)

    def _go_to_state(self, name: str = runs.STATE_FILE) -> None:
        """Load a state, on every rank before the leader may write another in its place."""
        trainer, folder = self.trainer, self.stage.folder
        self.saver.load_state(trainer, name)
        if len(set(trainer.ranks.collect((trainer.step, trainer.attempt)))) > 1:
            raise JeatError(
                f"the processes have found different states in `{folder}`",
                "put the run by `-o` on a disk that all machines see",
            )
        if trainer.ranks.is_main:
            self.log.rewind(trainer.step)

    def _go_back(self, reason: str) -> None:
        trainer, at, best = self.trainer, self.trainer.step, self.validation.state()
        attempt = trainer.attempt + 1
        self._go_to_state(trainer.ranks.from_main(self.saver.last_good))
        # The best weights so far are those of `best.safetensors`, however far the run goes back.
        self.validation.load_state(best)
        trainer.attempt = attempt
        event = {"event": "diverged", "step": trainer.step, "attempt": attempt, "reason": reason}
        if trainer.ranks.is_main:
            self.log.write({**event, "diverged_at": at, "lr": trainer.lr})
        if attempt > self.config.retries:
            raise Diverged(
                f"training ran away at step {at:,} ({reason})"
                f"{f', {attempt} times in all' if attempt > 1 else ''}; "
                f"the last good state is kept in `{self.stage.folder}`",
                f"start another run with `-o NAME`, and {_gentler(self.config.options)}",
            )
        self.saver.save_again(trainer)
        self.stage.reporter.warn(
            f"training ran away at step {at:,} ({reason}); "
            f"back to step {trainer.step:,} with a new seed and half the rate"
        )

    def _callbacks(self) -> Sequence[Callback]:
        """Return what happens around the loop, in this order; the leader alone keeps the log."""
        stage, saver = self.stage, self.saver
        grids = Grids(stage.folder, stage.model, self.config.sample_every)
        measured: list[Callback] = [saver.guard, self.validation, grids]
        kept: list[Callback] = [saver, Stop(self.should_stop, saver)]
        if not stage.ranks.is_main:
            return measured + kept
        return [*self.profile, *measured, self.log, *kept]


def _gentler(options: Mapping[str, Any]) -> str:
    """Say which settings of a method keep it from running away."""
    lower = ["`--lr`", *(["`--sgld-step-size`"] if "sgld_step_size" in options else [])]
    more = ", or more `-O energy_l2=0.1`" if "energy_l2" in options else ""
    return f"a lower {' or '.join(lower)}{more}"
