"""The optimisers, and their tensors for an exact resume."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .settings import OPTIMIZERS, TrainConfig

# Of parameters, each with its weight decay.
Groups = list[dict[str, Any]]


def build_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser; biases and normalisation layers decay only if `config.decay_norms`."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        # torch keeps these from its compiler, and imports it for that (2 s): they stay as they are.
        function = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        setattr(function, "__dynamo_disable", function)
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    rest = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups: Groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": config.weight_decay if config.decay_norms else 0.0},
    ]
    fused = next(model.parameters()).device.type in ("cuda", "cpu")
    built: torch.optim.Optimizer = OPTIMIZERS.load(config.optimizer)(config, groups, fused)
    return built


def sgd(config: TrainConfig, groups: Groups, fused: bool) -> torch.optim.Optimizer:
    """Return SGD with Nesterov momentum."""
    nesterov = config.momentum > 0
    return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=nesterov, fused=fused)


def heavy_ball(config: TrainConfig, groups: Groups, fused: bool) -> torch.optim.Optimizer:
    """Return SGD with plain (heavy-ball) momentum."""
    return torch.optim.SGD(groups, config.lr, config.momentum, fused=fused)


def adamw(config: TrainConfig, groups: Groups, fused: bool) -> torch.optim.Optimizer:
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
