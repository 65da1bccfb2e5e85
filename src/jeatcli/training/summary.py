"""What is said of a run before it begins: what is trained, and what is odd about it."""

import math
from collections.abc import Iterator

from ..checkpoints.header import Meta
from ..robustness import checks
from ..runtime.words import counted
from .settings import TrainConfig
from .trainer import Trainer


def summary(trainer: Trainer) -> tuple[str, str]:
    """Say what is trained: `jeat on digits: small (95,000 weights), 30 epochs of 22 steps`."""
    config = trainer.config
    weights = sum(weight.numel() for weight in trainer.model.parameters())
    device = str(trainer.device).replace("cpu", "CPU")
    augment = "not augmented" if config.augment == "none" else f"augmented by {config.augment}"
    length = f"{counted(config.epochs, 'epoch')} of {counted(len(trainer.loader), 'step')}"
    if trainer.steps < config.epochs * len(trainer.loader):
        length = f"the first {counted(trainer.steps, 'step')} of {length}"
    more = f", {config.extra_share:.3g} of a batch from `{config.extra}`" if config.extra else ""
    return (
        f"{config.method} on {config.dataset}: {config.arch} ({weights:,} weights), "
        f"{length}, {config.precision} on {device}",
        f"{counted(len(trainer.loader.images), 'training image')}{more}, {augment}",
    )


def doubts(config: TrainConfig, meta: Meta) -> Iterator[str]:
    """Yield a warning for each setting that is probably meant otherwise."""
    if config.val_split and not config.eval_every:
        yield (
            f"{counted(config.val_split, 'training image')} held out, but never used with "
            "`--eval-every 0`; `--val-split 0` trains on them"
        )
    if "eps" in config.options and (odd := checks.scale(meta.threat, math.prod(meta.shape))):
        yield odd
