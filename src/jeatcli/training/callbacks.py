"""What happens around the training loop: evaluations, sample grids, a stop on request."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import torch
from torch import Tensor

from ..acceleration.ways import in_float32
from ..checkpoints.runs import read_log
from ..core import energy
from ..core.models.classifier import evaluating
from ..data import pictures
from ..data.images import Images
from ..errors import Interrupted
from ..robustness import evaluator
from ..robustness.attacks.batch import AttackOptions
from ..runtime.devices import images_at_once
from ..runtime.progress import SILENT, Reporter
from ..sampling import sample
from .log import Log
from .setup import Setup
from .state import Saver
from .trainer import Callback, Metrics, Trainer, due, numbers

# Of PGD, whenever a run is evaluated.
VALIDATION_STEPS = 10
# A sample takes as many passes as PGD-10 training on this many images.
_SEEN_PER_SAMPLE = 6


@dataclass
class Validation(Callback):
    """Measure clean and robust accuracy of the averaged weights every few epochs.

    Adversarial training overfits: its robust accuracy falls long before the end (Rice et al.
    2020), so the weights that are most robust on images held out of training are kept beside
    the last ones. On test images nothing is kept: that would be choosing by the test set.
    """

    name: str  # of the images in the log, `val` (held out) or `test`
    images: Images  # on the training device
    options: AttackOptions  # of PGD
    every: int  # epochs between two evaluations; 0 for none
    log: Log  # takes `NAME_clean`, `NAME_robust` and `best_epoch`
    keep: Callable[[], object] | None = None  # saves the weights as the best so far
    reporter: Reporter = SILENT  # is told of each step, and may stop the evaluation
    best: float = -1.0
    best_epoch: int = 0

    def on_epoch(self, trainer: Trainer) -> None:
        if not due(trainer, self.every):
            return
        x = self.images.x
        size = min(images_at_once(x.shape, x.device), trainer.loader.share)
        model = trainer.average.model
        accuracy = evaluator.worst_case(
            model, self.images, ["pgd"], self.options, batch_size=size, reporter=self.reporter
        )
        for kind in ("clean", "robust"):
            self.log.extra[f"{self.name}_{kind}"] = accuracy[kind]
        if self.keep is None:
            return
        if accuracy["robust"] > self.best:
            self.best, self.best_epoch = accuracy["robust"], trainer.epoch
            self.keep()
        self.log.extra["best_epoch"] = self.best_epoch

    def state(self) -> dict[str, Tensor]:
        return {
            "robust": torch.tensor(self.best, dtype=torch.float64),
            "epoch": torch.tensor(self.best_epoch),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.best, self.best_epoch = float(state["robust"]), int(state["epoch"])


@dataclass
class DeltaEnergy(Callback):
    """Log E(x), E(x^) and their difference, and warn when that runs away.

    Of the last batch of an epoch, in eval mode, by two more passes. The difference diverges where
    adversarial training overfits, catastrophically or robustly (arXiv 2505.22486).
    """

    log: Log  # takes `energy_clean`, `energy_attacked` and `energy_delta`
    reporter: Reporter
    warned: bool = False
    found: dict[str, float] = field(default_factory=dict)

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        latest, model = getattr(trainer.method, "latest", None), trainer.model
        if latest is None or not trainer.between_epochs:  # no inner attack, or within an epoch
            return
        with torch.no_grad(), evaluating(model):
            # Not by a call: torch would compile the network for these two passes.
            means = [energy.marginal(model.forward(images)).mean() for images in latest]
        clean, attacked = numbers(trainer.ranks.mean(dict(zip("ab", means, strict=True)))).values()
        self.found = {"energy_clean": clean, "energy_attacked": attacked}
        self.found["energy_delta"] = clean - attacked

    def on_epoch(self, trainer: Trainer) -> None:
        self.log.extra |= self.found
        if not self.found or not trainer.ranks.is_main or self.warned:
            return
        delta = self.found["energy_delta"]
        lines = (line for _, line in read_log(self.log.path))
        earlier = [line["energy_delta"] for line in lines if "energy_delta" in line]
        if runs_away(delta, earlier):
            self.warned = True
            self.reporter.warn(
                f"E(x) - E(x^) is {delta:.3g} after epoch {trainer.epoch}, in the epochs before "
                f"{median(earlier):.3g} (median): a sign of overfitting to the attack; "
                "compare the robust accuracy of earlier epochs"
            )

    def state(self) -> dict[str, Tensor]:  # for an epoch whose end is not over
        return {
            name: torch.tensor(value, dtype=torch.float64) for name, value in self.found.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.found = {name: value.item() for name, value in state.items()}


def runs_away(delta: float, earlier: Sequence[float]) -> bool:
    """Tell whether an energy difference is far from those of at least three epochs before."""
    if len(earlier) < 3:
        return False
    usual = median(earlier)
    return abs(delta - usual) > max(1.0, 2 * abs(usual))


@dataclass
class Grids(Callback):
    """Draw a grid of samples every few epochs, up to ten rows of one column per class.

    After few images there are fewer rows: the grid is not to take longer than the training. They
    start where the method's chains do, if it has any: from class Gaussians everything looks
    like something. Several processes draw a part each, and the first writes the picture.
    """

    setup: Setup
    every: int
    reporter: Reporter = SILENT

    def on_epoch(self, trainer: Trainer) -> None:
        if not due(trainer, self.every):
            return
        model = self.setup.model()
        # Here it is no news that the run is not finished.
        model = replace(model, meta=replace(model.meta, finished=True))
        columns = min(len(model.meta.classes), 10)
        seen = trainer.step * trainer.loader.batch_size
        rows = max(1, min(10, seen // (_SEEN_PER_SAMPLE * columns)))
        drawn = sample.sample(
            model,
            num=rows * columns,
            classes=tuple(range(columns)),
            init=model.meta.options.get("chain_start"),
            batch_size=min(model.images_at_once(), trainer.loader.share),
            kernel=in_float32(trainer.config.kernel),
            compiled=False,
            reporter=self.reporter,
        )
        if trainer.ranks.is_main:
            path = self.setup.folder / "samples" / f"epoch-{trainer.epoch:03d}.png"
            picture = pictures.grid(drawn.images, columns=columns, scale=4)
            pictures.save_png(picture, path, {"settings": json.dumps(drawn.settings)})


@dataclass
class Stop(Callback):
    """Save and leave when the user asks for it, between two steps or within one.

    A single process asks before each pass of an attack or a chain, within a step, which is
    abandoned if it has not changed anything yet, and in the evaluations after an epoch, which the
    resumed run does again. Several processes finish the step, or the epoch's end.
    """

    requested: Callable[[], bool]
    saver: Saver
    trainer: Trainer
    _buffers: list[Tensor] = field(default_factory=list)
    _state: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.trainer.ranks.size == 1:
            self.trainer.method.on_inner_step = self.within_step
            self._remember()

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        if not trainer.between_epochs and trainer.ranks.any(self.requested()):
            self._leave(f"in epoch {trainer.epoch + 1}")
        self._remember()

    def on_epoch(self, trainer: Trainer) -> None:
        if not trainer.finished and trainer.ranks.any(self.requested()):
            self.saver.save(trainer)
            raise self._interrupted(f"after epoch {trainer.epoch}")

    def at_epoch_end(self) -> None:
        """Leave, with a state from which the epoch's end is begun again."""
        if self.requested():
            self._leave(f"at the end of epoch {self.trainer.epoch}")

    def within_step(self) -> None:
        """Leave, with the state as it was before this step, if the method still has it."""
        if self.requested() and self._state == _versions(self.trainer):
            for buffer, before in zip(self.trainer.model.buffers(), self._buffers, strict=True):
                buffer.copy_(before)
            self._leave(f"in epoch {self.trainer.epoch + 1}")

    def _remember(self) -> None:
        """Note what a step may change before the optimiser's turn: statistics, replay buffers."""
        if self.trainer.ranks.size == 1:
            self._buffers = [buffer.clone() for buffer in self.trainer.model.buffers()]
            self._state = _versions(self.trainer)

    def _leave(self, where: str) -> None:
        trainer = self.trainer
        self.saver.divergence.check()
        if self.saver.saved_step != trainer.step:
            self.saver.save_state(trainer)
        raise self._interrupted(where)

    def _interrupted(self, where: str) -> Interrupted:
        return Interrupted(
            f"stopped {where} of {self.trainer.config.epochs}; "
            f"the state is saved in `{self.saver.folder}`",
            "run the same command again to resume",
        )


def _versions(trainer: Trainer) -> list[tuple[int, int]]:
    """Return what changes whenever a tensor of the method does."""
    return [(id(tensor), tensor._version) for tensor in trainer.method.state().values()]
