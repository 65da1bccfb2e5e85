"""The optimiser, the learning rate over a run, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..core.models.classifier import Classifier
from .settings import TrainConfig


def optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD with Nesterov's momentum or Polyak's (`heavy-ball`), or AdamW.

    Biases and normalisation layers do not decay unless `config.decay_norms`.
    """
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    rest = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": config.weight_decay if config.decay_norms else 0.0},
    ]
    fused = next(model.parameters()).device.type in ("cuda", "cpu")
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.lr, (config.momentum, 0.999), fused=fused)
    nesterov = config.optimizer == "sgd" and config.momentum > 0
    return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=nesterov, fused=fused)


def lr_factor(config: TrainConfig, done: float) -> float:
    """Return the learning rate as a share of its maximum, after a share `done` of the run.

    All rise linearly over `warmup`. Then `one-cycle` falls linearly to zero (Smith 2018),
    `cosine` as half a cosine (Loshchilov and Hutter 2017), `multi-step` by `lr_decay` at each
    of the `milestones`, shares of the whole run, and `constant` stays.
    """
    if done < config.warmup:
        return done / config.warmup
    after = (done - config.warmup) / max(1 - config.warmup, 1e-12)
    if config.schedule == "one-cycle":
        return 1 - after
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * after)) / 2
    if config.schedule == "multi-step":
        return config.lr_decay ** sum(done >= milestone for milestone in config.milestones)
    return 1.0


class Average:
    """The exponential moving average of a model's weights, which is what a run saves.

    The decay is ramped up, min(decay, (1 + t) / (10 + t)), so that the first weights are soon
    forgotten. Running statistics are averaged like the weights that they belong to; counts are
    taken over as they are.
    """

    def __init__(self, model: Classifier, average: Classifier, decay: float) -> None:
        self.model = average.eval().requires_grad_(False)
        # It is what is evaluated and sampled from, and figures that are told are float32's.
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


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Yield the optimiser's tensors by the index of their weight and their name."""
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if value is not None:
                yield f"{index}.{name}", torch.as_tensor(value)


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take back what `optimizer_tensors` yielded.

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
