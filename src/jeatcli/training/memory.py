"""What to do when a batch does not fit: find one that does, and say so."""

import gc

import torch

from ..core.rng import BatchRng
from ..data.images import to_unit_range
from ..errors import JeatError, no_memory
from ..runtime.words import counted
from .trainer import Objective, Trainer

# Halvings of the interval between the largest size that fitted and the smallest that did not.
_REFINEMENTS = 3


def too_large(trainer: Trainer) -> JeatError:
    """Build the error for a batch that did not fit, with the largest one that does."""
    hint = "not even one image fits: use a smaller `--arch`, or `--device cpu`"
    if most := largest_batch(trainer):
        hint = f"use `--batch-size {most}`, the largest that fitted in a quick probe"
    size = counted(trainer.loader.batch_size, "image")
    return JeatError(f"`{trainer.device}` is out of memory with batches of {size}", hint)


def largest_batch(trainer: Trainer) -> int:
    """Return a size at which a step fits, within an eighth of the largest; 0 if none does.

    Where there are ranks, each tries its part of a batch by itself. Afterwards only the
    trainer's state on disk is of use.
    """
    # Its gradients would still be exchanged, with ranks that do not try.
    trainer.objective = Objective(trainer.method, trainer.model)
    gc.collect()
    fits, fails = 0, trainer.loader.share
    while not fits and fails > 1:
        middle = fails // 2
        fits, fails = (middle, fails) if _fits(trainer, middle) else (0, middle)
    for _ in range(_REFINEMENTS if fits else 0):
        if (middle := (fits + fails) // 2) == fits:
            break
        fits, fails = (middle, fails) if _fits(trainer, middle) else (fits, middle)
    return fits * trainer.loader.parts


def _fits(trainer: Trainer, size: int) -> bool:
    """Try a step on a batch of that size, with the state that the optimiser makes at its first."""
    images = trainer.loader.images
    trainer.optimizer.zero_grad(set_to_none=True)
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        x, y = to_unit_range(images.x[:size]), images.y[:size]
        trainer.model.train()
        loss, _ = trainer.method.loss(trainer.model, x, y, BatchRng(0, x.device))
        torch.autograd.backward(loss)
        trainer.optimizer.step()
    except RuntimeError as problem:  # torch.OutOfMemoryError is one
        if not no_memory(problem):
            raise
        return False
    return True
