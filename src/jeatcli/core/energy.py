"""The energies that a classifier's logits define (Grathwohl et al. 2020; Zhu et al. 2021).

With logits `f(x)` of shape (n, K), the densities p(x, y) = exp(-E(x, y)) / Z and
p(x) = exp(-E(x)) / Z share one Z: summing the first over y gives the second.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def joint(logits: Tensor, y: Tensor) -> Tensor:
    """Return E(x, y) = -f(x)[y], shape (n,), for logits (n, K) and labels (n,)."""
    return -logits.gather(1, y[:, None]).squeeze(1)


def marginal(logits: Tensor) -> Tensor:
    """Return E(x) = -logsumexp_k f(x)[k], shape (n,), for logits (n, K)."""
    return -logits.logsumexp(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return CE(x, y) = -log p(y|x) = E(x, y) - E(x), shape (n,)."""
    return F.cross_entropy(logits, y, reduction="none")


def class_probabilities(logits: Tensor) -> Tensor:
    """Return p(y|x) = exp(E(x) - E(x, y)) for every y, shape (n, K)."""
    return logits.softmax(1)


# Images (n, C, H, W) in [0, 1] to logits (n, K).
Logits = Callable[[Tensor], Tensor]
# Images, or logits, to one number each, (n,); images do not influence one another.
PerImage = Callable[[Tensor], Tensor]
# Called after each step of an ascent or a chain as hook(step, x, moved, values): the step led from
# x, whose values were taken, to `moved`. Returns the next iterate, or None to stop at x.
Hook = Callable[[int, Tensor, Tensor, Tensor], Tensor | None]
