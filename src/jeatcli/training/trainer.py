"""The training loop, the optimisers and schedules, and the average of the weights."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from ..core.jeat import Method
from ..core.models.classifier import Classifier
from ..core.rng import BatchRng, drawing_by, mix
from ..data.loader import Loader
from ..runtime.distributed import SINGLE, ProcessGroup
from .contract import checked_loss
from .settings import OPTIMIZERS, SCHEDULES, TrainConfig

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
        self.optimizer = optimizer(config, model)
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


# The optimisers. `groups` are parameter groups with their weight decay.


def optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser; biases and normalisation layers decay only if `config.decay_norms`."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        # torch keeps these from its compiler, and imports it for that (2 s): they stay as they are.
        function = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        setattr(function, "__dynamo_disable", function)
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    rest = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": config.weight_decay if config.decay_norms else 0.0},
    ]
    fused = next(model.parameters()).device.type in ("cuda", "cpu")
    built: torch.optim.Optimizer = OPTIMIZERS.load(config.optimizer)(config, groups, fused)
    return built


def sgd(config: TrainConfig, groups: Any, fused: bool) -> torch.optim.Optimizer:
    """Return SGD with Nesterov momentum."""
    nesterov = config.momentum > 0
    return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=nesterov, fused=fused)


def heavy_ball(config: TrainConfig, groups: Any, fused: bool) -> torch.optim.Optimizer:
    """Return SGD with plain (heavy-ball) momentum."""
    return torch.optim.SGD(groups, config.lr, config.momentum, fused=fused)


def adamw(config: TrainConfig, groups: Any, fused: bool) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(groups, config.lr, (config.momentum, 0.999), fused=fused)


def begin_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Let weights whose first gradient comes late (stochastic depth) begin with a momentum of zero.

    It is what SGD's first step amounts to; its fused form refuses some with and some without one.
    """
    slot = "momentum_buffer"
    for group in optimizer.param_groups if isinstance(optimizer, torch.optim.SGD) else ():
        moved = [weight for weight in group["params"] if weight.grad is not None]
        late = [weight for weight in moved if optimizer.state[weight].get(slot) is None]
        if group["momentum"] and len(late) < len(moved):
            for weight in late:
                optimizer.state[weight][slot] = torch.zeros_like(weight)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Yield the optimiser's tensors by the index of their weight and their name."""
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if value is not None:
                yield f"{index}.{name}", torch.as_tensor(value)


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` yielded.

    Each tensor takes the memory layout of its weight: fused kernels go through both in step.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        weight = weights[int(index)]
        laid_out = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
        state.setdefault(int(index), {})[name] = laid_out
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


# The schedules: the learning rate as a fraction of its peak. `done` is the fraction of the run that
# is over, `after` that of the part after the warm-up.


def lr_factor(config: TrainConfig, done: float) -> float:
    """Return the learning rate as a fraction of its peak; it first rises linearly."""
    if done < config.warmup:
        return done / config.warmup
    after = (done - config.warmup) / max(1 - config.warmup, 1e-12)
    return float(SCHEDULES.load(config.schedule)(config, done, after))


def one_cycle(config: TrainConfig, done: float, after: float) -> float:
    """Fall linearly to zero (Smith 2018)."""
    return 1 - after


def cosine(config: TrainConfig, done: float, after: float) -> float:
    """Fall to zero as half a cosine (Loshchilov and Hutter 2017)."""
    return (1 + math.cos(math.pi * after)) / 2


def multi_step(config: TrainConfig, done: float, after: float) -> float:
    """Decay by `lr_decay` at each of the `milestones`, fractions of the whole run."""
    return config.lr_decay ** sum(done >= milestone for milestone in config.milestones)


def constant(config: TrainConfig, done: float, after: float) -> float:
    """Return 1: the rate after the warm-up does not change."""
    return 1.0


class Average:
    """The exponential moving average of a model's weights, which is what a run saves.

    The decay is ramped up, min(decay, (1 + t) / (10 + t)), so that the first weights are soon
    forgotten. Running statistics are averaged like the weights that they belong to; counts are
    copied.
    """

    def __init__(self, model: Classifier, average: Classifier, decay: float) -> None:
        self.model = average.eval().requires_grad_(False)
        # It is what is evaluated and sampled from, and reported figures are float32's.
        self.model.autocast = None
        self.decay = decay
        ours, theirs = ((*net.parameters(), *net.buffers()) for net in (self.model, model))
        pairs = list(zip(ours, theirs, strict=True))
        self._pairs = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average toward the weights as they are after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = zip(*self._pairs, strict=True)
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for ours, theirs in self._counts:
            ours.copy_(theirs)
