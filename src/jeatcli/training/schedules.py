"""The schedules: the learning rate as a fraction of its peak.

`done` is the fraction of the run that is over, `after` that of the part after the warm-up.
"""

import math

from .settings import SCHEDULES, TrainConfig


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
