"""What an exact resume needs, and when it is saved."""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..checkpoints import runs
from ..checkpoints.checkpoint import read_tensors, under_prefix, write_tensors
from ..checkpoints.header import SCHEMA, CutShort, Damaged, read_header
from ..errors import JeatError
from ..runtime.files import link_or_copy, replacing
from .divergence import Divergence
from .identity import check_settings, of_state
from .optimizers import load_optimizer_tensors, optimizer_tensors
from .trainer import Callback, Metrics, Trainer


def save_state(path: Path, trainer: Trainer, parts: Mapping[str, Callback]) -> None:
    """Write what an exact resume needs: the trainer between two steps, the callbacks by name.

    Where there are ranks, the first writes.
    """
    states: dict[str, Mapping[str, Tensor]] = {
        "model": trainer.model.state_dict(),
        "average": trainer.average.model.state_dict(),
        "optimizer": dict(optimizer_tensors(trainer.optimizer)),
        "method": _whole(trainer),
        **{f"extra.{name}": part.state() for name, part in parts.items()},
    }
    if not trainer.ranks.is_main:
        return
    tensors = {
        f"{name}.{key}": each for name, state in states.items() for key, each in state.items()
    }
    about = {
        "step": trainer.step,
        "attempt": trainer.attempt,
        "images": trainer.loader.digest,
        "settings": of_state(trainer.config),
        "schema": SCHEMA,
        "version": version("jeat-cli"),
    }
    write_tensors(path, tensors, about)


def load_state(path: Path, trainer: Trainer, parts: Mapping[str, Callback]) -> None:
    """Restore a trainer, and the callbacks by their names, from what `save_state` wrote."""
    start_over = "start over with `--force`, which keeps the old run beside the new one"
    try:
        header = read_header(path)
        tensors = read_tensors(path, header)
    except (CutShort, Damaged) as problem:
        before = path.with_name(runs.STATE_BEFORE_FILE)
        there = before != path and before.is_file()
        move = shlex.join(["mv", str(before), str(path)])
        fix = f"go back to the save before by `{move}`" if there else "copy it again"
        raise JeatError(problem.message, f"{fix}, or {start_over}") from problem
    check_settings(path, header, trainer.config)
    _check_images(path, header, trainer, start_over)
    # On the CPU, for Apple's devices have no float64; each goes where its like is.
    try:
        trainer.model.load_state_dict(under_prefix("model.", tensors))
        trainer.average.model.load_state_dict(under_prefix("average.", tensors))
        load_optimizer_tensors(trainer.optimizer, under_prefix("optimizer.", tensors))
        trainer.method.load_state(_part(trainer, under_prefix("method.", tensors)))
        trainer.step, trainer.attempt = header["step"], header["attempt"]
        if not (0 <= trainer.step <= trainer.steps and trainer.attempt >= 0):
            raise ValueError(f"step {trainer.step:,} of {trainer.steps:,}")
        for name, part in parts.items():
            part.load_state(under_prefix(f"extra.{name}.", tensors))
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError, ArithmeticError) as problem:
        raise JeatError(f"`{path}` does not fit this run: {problem}", start_over) from problem


def _check_images(path: Path, header: Mapping[str, Any], trainer: Trainer, start_over: str) -> None:
    """Refuse the state of a run with other images."""
    images = trainer.loader.digest
    if header.get("images", images) != images:
        config = trainer.config
        dataset, others = config.dataset, (config.extra, config.options.get("ood"))
        named = " or ".join(f"`{source}`" for source in (dataset, *others) if source)
        why = (
            ": pictures have changed, or an older version began the run, which split folders by "
            "file names and not by content (docs/data.md)"
            if dataset.startswith("folder:")
            else ""
        )
        raise JeatError(
            f"the images of {named} are not those that `{path.parent}` was started on{why}",
            f"put those back, or {start_over}",
        )


def _whole(trainer: Trainer) -> dict[str, Tensor]:
    """Return the method's tensors, with each rank's own images put together."""
    state = trainer.method.state()
    per_rank = [key for key in trainer.method.per_rank if key in state]
    return state | {key: trainer.ranks.gather(state[key]) for key in per_rank}


def _part(trainer: Trainer, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return this rank's part of what `_whole` put together, however many ranks there were."""
    own = trainer.method.state()
    for key in trainer.method.per_rank:
        if key in state:
            count = len(own[key])
            rows = torch.arange(count, device=state[key].device) + trainer.ranks.rank * count
            state[key] = state[key][rows % len(state[key])]
    return state


@dataclass
class Saver(Callback):
    """Write state and model at the end of epochs, and the state every few minutes within one.

    The state comes first: a run that is killed between the two is known by its state to be
    done, and the model is written then. An epoch that ends within `rare` times the duration of
    the last save is not saved, so that short epochs are not spent on saving. The state before
    the last is kept too, because the last may be of a run that was diverging already.
    """

    rare: ClassVar[float] = 50

    folder: Path  # the run's
    save_model: Callable[[], object]  # writes `model.safetensors`
    parts: Mapping[str, Callback]  # those whose state is saved with the trainer's, by name
    seconds: float  # between two saves within an epoch
    divergence: Divergence = field(default_factory=Divergence)  # checks metrics before a save
    overdue: bool = False  # whether the next end of an epoch is saved in any case
    saved: float = field(default_factory=time.monotonic)
    took: float = 0.0
    saved_step: int = -1

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        late = time.monotonic() - self.saved >= self.seconds
        if not trainer.between_epochs and trainer.ranks.any(late):
            self.divergence.check()
            self.save_state(trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        late = time.monotonic() - self.saved >= min(self.seconds, self.rare * self.took)
        if trainer.finished or self.overdue or trainer.ranks.any(late):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the state and the model, if that has not been done after this step."""
        if self.saved_step == trainer.step:
            return
        began = time.monotonic()
        self.save_state(trainer)
        self.save_model()
        trainer.ranks.wait()  # for the first process, which `torchrun` ends once another has ended
        self._clock(began)
        self.overdue = False

    def save_state(self, trainer: Trainer) -> None:
        """Write `state.safetensors`; the old one becomes `state-before.safetensors`."""
        state, before = self.folder / runs.STATE_FILE, self.folder / runs.STATE_BEFORE_FILE
        if trainer.ranks.is_main and state.is_file():
            with replacing(before) as beside:
                link_or_copy(state, beside)
        self.save_again(trainer)

    def save_again(self, trainer: Trainer) -> None:
        """Write `state.safetensors` after a roll-back; the state before stays."""
        began = time.monotonic()
        save_state(self.folder / runs.STATE_FILE, trainer, self.parts)
        trainer.ranks.wait()
        self._clock(began)
        self.saved_step = trainer.step

    def _clock(self, began: float) -> None:
        self.saved = time.monotonic()
        self.took = self.saved - began

    def last_good(self) -> str:
        """Return the file to go back to: the last state, or the one before if that failed.

        A run that has diverged from its last state since it was saved has counted an attempt
        there which the state before does not have.
        """
        files = (self.folder / name for name in (runs.STATE_FILE, runs.STATE_BEFORE_FILE))
        attempts = [read_header(path)["attempt"] for path in files if path.is_file()]
        failed = len(attempts) == 2 and attempts[0] > attempts[1]
        return runs.STATE_BEFORE_FILE if failed else runs.STATE_FILE

    def go_back(self, trainer: Trainer, name: str = runs.STATE_FILE) -> None:
        """Go back to a state that was saved, by default the last."""
        load_state(self.folder / name, trainer, self.parts)
        # After the last step the model is saved in any case: the end of its epoch may be to come.
        self.saved_step = -1 if trainer.between_epochs else trainer.step
