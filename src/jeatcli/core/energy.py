"""The energies that a classifier's logits define (Grathwohl et al. 2020; Zhu et al. 2021).

With logits `f(x)` of shape (n, K), the densities p(x, y) = exp(-E(x, y)) / Z and
p(x) = exp(-E(x)) / Z share one Z: summing the first over y gives the second.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def joint(logits: Tensor, y: Tensor) -> Tensor:
    """Return E(x, y) = -f(x)[y], shape (n,), for logits (n, K) and labels (n,)."""
    return -logits.gather(1, y[:, None]).squeeze(1)


def marginal(logits: Tensor) -> Tensor:
    """Return E(x) = -logsumexp_k f(x)[k], shape (n,), for logits (n, K)."""
    return -logits.logsumexp(1)


def cross_entropy(logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return CE(x, y) = -log p(y|x) = E(x, y) - E(x), shape (n,).

    With a `smoothing` s it is (1 - s) CE(x, y) + s mean_k CE(x, k) (Szegedy et al. 2016).
    """
    return F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)


def binary_cross_entropy(above: Tensor, below: Tensor) -> Tensor:
    """Return the mean cross-entropy of sigmoid(-E(x)) with 1 and sigmoid(-E(x-)) with 0.

    `above` is E(x) of the images to tell apart (n,), `below` E(x-) of those to tell them from.
    """
    return (F.softplus(above).mean() + F.softplus(-below).mean()) / 2


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
