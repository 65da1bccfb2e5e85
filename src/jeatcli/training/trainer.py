"""The training loop; what happens around it are callbacks."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from ..core.jeat import Method
from ..core.models.classifier import Classifier
from ..core.rng import BatchRng, drawing_by, mix
from ..data.loader import Loader
from ..runtime.distributed import SINGLE, ProcessGroup
from .average import Average
from .contract import checked_loss
from .optimizers import begin_momenta, build_optimizer
from .schedules import lr_factor
from .settings import TrainConfig

Metrics = dict[str, Tensor]


class Callback:
    """Something that happens around the loop."""

    def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
        """Follow a step; `metrics` are tensors of no dimension on the training device."""

    def on_epoch(self, trainer: Trainer) -> None:
        """Follow an epoch."""

    def state(self) -> dict[str, Tensor]:
        """Return what an exact resume needs of it."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""


class Objective(nn.Module):
    """A method's loss as a module around the network, which is what processes share."""

    def __init__(self, method: Method, model: Classifier) -> None:
        super().__init__()
        self.method, self.model = method, model

    def forward(self, x: Tensor, y: Tensor, rng: BatchRng) -> tuple[Tensor, Metrics]:
        return checked_loss(self.method, self.method.loss(self.model, x, y, rng))


class Trainer:
    """Run one method over one loader; everything else is a callback.

    All randomness of a step is a function of the seed, the attempt and the step's number, and
    all randomness of the data one of the seed and the position, so `step`, the tensors and
    `attempt` are the whole state.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: Classifier,
        method: Method,
        loader: Loader,
        ranks: ProcessGroup = SINGLE,
    ) -> None:
        self.config, self.model, self.method, self.loader = config, model, method, loader
        self.ranks, self.objective = ranks, ranks.wrap(Objective(method, model))
        self.optimizer = build_optimizer(config, model)
        self.average = Average(model, copy.deepcopy(model), config.ema)
        self.step, self.attempt = 0, 0

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def epoch(self) -> int:
        """Epochs that are done; one within which `max_steps` end the run counts as one."""
        whole, part = divmod(self.step, len(self.loader))
        return whole + (part > 0 and self.finished)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        of_epochs = self.config.epochs * len(self.loader)
        return min(of_epochs, self.config.max_steps or of_epochs)

    @property
    def between_epochs(self) -> bool:
        """Whether the last step was the last of its epoch, or of the run."""
        return self.step % len(self.loader) == 0 or self.finished

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    def fit(self, callbacks: Sequence[Callback] = (), epoch_ends: bool = False) -> None:
        """Train from where the state is to the end; `epoch_ends` if that is still to be followed.

        The state may be that of a run which was stopped in the evaluations after an epoch.
        """
        for callback in callbacks if epoch_ends else ():
            callback.on_epoch(self)
        while not self.finished:
            for x, y in self.loader.epoch(self.epoch, self.step % len(self.loader)):
                metrics = self.update(x, y)
                for callback in callbacks:
                    callback.on_step(self, metrics)
                if self.finished:
                    break
            for callback in callbacks:
                callback.on_epoch(self)

    def update(self, x: Tensor, y: Tensor) -> Metrics:
        """Take one step on images (n, C, H, W) in [0, 1] with labels (n,)."""
        self.model.train()
        ranks = self.ranks
        seed = mix(self.config.seed, self.attempt, self.step)
        rng = BatchRng(seed, x.device, (ranks.rank, ranks.size))
        self.optimizer.zero_grad(set_to_none=True)
        with drawing_by(seed + ranks.rank, x.device):
            with record_function("loss"):
                loss, metrics = self.objective(x, y, rng)
            with record_function("backward"):
                torch.autograd.backward(loss)
        with record_function("optimizer"):
            norm = self._descend()
            ranks.average_statistics(self.model)
        self.step += 1
        with record_function("average"):
            self.average.update(self.step)
        logged = {"loss": loss, "grad_norm": norm, **metrics}
        return ranks.mean({name: value.detach() for name, value in logged.items()})

    @property
    def lr(self) -> float:
        """The learning rate of the next step; each failed attempt halves it."""
        factor = lr_factor(self.config, (self.step + 1) / (self.steps + 1))
        return float(self.config.lr * factor * 0.5**self.attempt)

    def _descend(self) -> Tensor:
        """Clip the gradient and let the optimiser step; return the norm that it had."""
        maximum = self.config.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), maximum)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        begin_momenta(self.optimizer)
        with torch.no_grad():
            # Without its decorators, which import torch's compiler.
            inspect.unwrap(type(self.optimizer).step)(self.optimizer)
        return norm


def numbers(metrics: Metrics) -> dict[str, float]:
    """Return metrics as numbers; the training device is waited for once."""
    values = [value.float() for value in metrics.values()]
    return dict(zip(metrics, torch.stack(values).tolist(), strict=True)) if values else {}


def due(trainer: Trainer, every: int) -> bool:
    """Return whether something done every few epochs is due; at the end it always is."""
    return bool(every) and (trainer.epoch % every == 0 or trainer.finished)
