"""APGD: projected gradient ascent that finds its own step size (Croce and Hein 2020a)."""

from functools import partial

import torch
from torch import Tensor

from ...core import energy, objectives, pgd
from . import TARGETS
from .ascent import Ascent, Loss, SparseAscent
from .batch import AttackOptions, Batch
from .restarts import Broken, from_starts, tries
from .surrogate import Surrogate


def apgd(
    surrogate: Surrogate,
    batch: Batch,
    options: AttackOptions,
    *,
    loss: Loss,
    steps: int,
    restarts: int,
    draws: int = 1,
    classes: Tensor | None = None,
) -> Tensor:
    """Return adversarial images where APGD on the loss finds any.

    It starts at random points of the ball's surface, for each of the `classes` (n, T) to try, if
    there are any.
    """
    ascent = _ascent(surrogate, loss, options, steps, draws)

    def search(restart: int, part: Batch, left: Tensor, broken: Broken) -> None:
        toward = None if classes is None else classes[left]
        rows, rngs = tries(part, options.seed, restart, toward)
        start = torch.cat([ascent.start(part.x, rng) for rng in rngs])
        ascent.run(rows, left.repeat(len(rngs)), start, broken)

    return from_starts(surrogate, batch, restarts, search)


def apgd_t(
    surrogate: Surrogate,
    batch: Batch,
    options: AttackOptions,
    *,
    steps: int,
    restarts: int,
    targets: int = TARGETS,
) -> Tensor:
    """Return adversarial images where APGD toward any of the likeliest classes finds one."""
    classes = surrogate.likeliest(batch, targets)
    return apgd_toward(surrogate, batch, options, classes=classes, steps=steps, restarts=restarts)


def _ascent(
    surrogate: Surrogate, loss: Loss, options: AttackOptions, steps: int, draws: int = 1
) -> Ascent:
    kind = SparseAscent if options.threat.norm == "l1" else Ascent
    return kind(surrogate, loss, pgd.ball(options.threat), steps, draws)


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Return CE(x, y), or with a target t minus CE(x, t)."""
    if batch.target is None:
        return energy.cross_entropy(logits, batch.y)
    return -energy.cross_entropy(logits, batch.target)


def dlr(logits: Tensor, batch: Batch) -> Tensor:
    """Return the ratio, which stays the same if all logits are scaled."""
    if batch.target is None:
        return objectives.dlr(logits, batch.y)
    return objectives.targeted_dlr(logits, batch.y, batch.target)


def targeted_dlr(logits: Tensor, batch: Batch) -> Tensor:
    """Return the ratio toward the class that the row tries."""
    assert batch.toward is not None
    return objectives.targeted_dlr(logits, batch.y, batch.toward)


apgd_ce, apgd_dlr = partial(apgd, loss=cross_entropy), partial(apgd, loss=dlr)
apgd_toward = partial(apgd, loss=targeted_dlr)  # the `classes` that it is given
