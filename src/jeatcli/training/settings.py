"""Every setting of a training run and its default, in one place.

A default may depend on the method, the architecture and the data set; the tables are laid over
one another in that order, and what the user says lies on top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

from ..errors import UsageProblem, unknown


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training run; `resolve` fills in the defaults.

    Args:
        method: A file of `methods/`.
        dataset: A key of `datasets.DATASETS`, or `folder:PATH`.
        arch: Name of a network.
        norm_layer: `batch`, `group` or `none`.
        activation: `relu` or `silu`.
        epochs: Passes over the training images.
        max_steps: End after so many steps, be it within an epoch; 0 for no such end.
        batch_size: Images a step.
        optimizer: `sgd` (Nesterov momentum), `heavy-ball` (plain momentum) or `adamw`.
        lr: Highest learning rate.
        schedule: `one-cycle`, `cosine`, `multi-step` or `constant`.
        milestones, lr_decay: Of `multi-step`: shares of the run after which the rate is
            multiplied.
        warmup: Share of the run over which the rate rises from zero.
        weight_decay: Of weights.
        decay_norms: Whether biases and normalisation layers decay too.
        momentum: Of SGD, or Adam's first beta.
        grad_clip: Largest norm of the gradient; 0 for none.
        ema: Decay of the average of the weights that is saved; 0 for none.
        precision: `auto`, `fp32` or `bf16`, of the network's inside.
        compile: Whether `torch.compile` makes the network quicker, at the cost of the start.
        seed: Of everything random.
        limit: Use the first so many training images; 0 for all.
        val_split: Training images that are held out, to choose the best state by.
        sample_every, eval_every: Epochs between sample grids, and between evaluations.
        save_every: Seconds between saves of the state within an epoch.
        retries: How often a run that diverged goes back to its last good state.
        options: The method's own settings.
    """

    method: str
    dataset: str
    arch: str
    norm_layer: str
    activation: str
    epochs: int
    max_steps: int
    batch_size: int
    optimizer: str
    lr: float
    schedule: str
    milestones: tuple[float, ...]
    lr_decay: float
    warmup: float
    weight_decay: float
    decay_norms: bool
    momentum: float
    grad_clip: float
    ema: float
    precision: str
    compile: bool
    seed: int
    limit: int
    val_split: int
    sample_every: int
    eval_every: int
    save_every: int
    retries: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name.replace("_", " "), getattr(self, name), choices)
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not (isinstance(value, int | float) and least <= value <= most):
                raise UsageProblem(f"{name} must be between {least:g} and {most:g}, not {value}")
        if not all(0 < low < high < 1 for low, high in pairwise((1e-9, *self.milestones))):
            raise UsageProblem(
                f"milestones must rise from 0 to 1, not {', '.join(map(str, self.milestones))}",
                "give shares of the run, such as `--milestones 0.5,0.75`",
            )
        buffer = self.options.get("buffer_size", self.batch_size)
        if buffer < self.batch_size:
            raise UsageProblem(
                f"a replay buffer of {buffer} images is too small for batches of {self.batch_size}",
                "raise `--buffer-size` or lower `--batch-size`",
            )


OPTIMIZERS = ("sgd", "heavy-ball", "adamw")
SCHEDULES = ("one-cycle", "cosine", "multi-step", "constant")
_CHOICES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": ("auto", "fp32", "bf16"),
    "norm_layer": ("batch", "group", "none"),
    "activation": ("relu", "silu"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 1e6),
    "max_steps": (0, 1e12),
    "batch_size": (1, 1e6),
    "lr": (0, 1e3),
    "lr_decay": (0, 1),
    "warmup": (0, 1),
    "weight_decay": (0, 1e3),
    "momentum": (0, 0.9999),
    "grad_clip": (0, math.inf),
    "ema": (0, 0.999999),
    "limit": (0, 1e12),
    "val_split": (0, 1e12),
    "sample_every": (0, 1e6),
    "eval_every": (0, 1e6),
    "save_every": (1, 1e6),
    "retries": (0, 100),
}

# What changes how a run is watched, but not what it computes.
WATCHING = ("sample_every", "eval_every", "save_every", "retries")


def differing(ours: TrainConfig, theirs: TrainConfig) -> list[str]:
    """Name the settings, other than how a run is watched, in which two configurations differ."""
    keys = []
    for each in fields(TrainConfig):
        mine, other = getattr(ours, each.name), getattr(theirs, each.name)
        if each.name == "options":
            keys += [key for key in {**mine, **other} if mine.get(key) != other.get(key)]
        elif each.name == "precision":
            keys += ["precision"] if mine not in (other, "auto") else []
        elif each.name not in WATCHING and mine != other:
            keys.append(each.name)
    return sorted(keys)
