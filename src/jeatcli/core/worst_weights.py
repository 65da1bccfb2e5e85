"""A loss at the weights near the present ones that are worst for it (Wu et al. 2020)."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.func import functional_call

from .energy import Logits
from .models.classifier import Classifier

T = TypeVar("T")
# Weights and the loss's gradients to how far each weight is moved.
Offsets = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


def at_worst_weights(
    model: Classifier, loss: Callable[[Logits], tuple[Tensor, T]], offsets: Offsets
) -> tuple[Tensor, T]:
    """Return the loss at w + v, with v of the gradient at w; its own gradient lands on w.

    The weights themselves are left alone, so there is nothing to restore. Running statistics are
    moved once, at w: the network that is used has those weights. Processes share one v. `loss`
    returns the loss of the network that it is given, and what else is wanted of it.
    """
    weights = dict(model.named_parameters())
    value, _ = loss(model)
    gradients = torch.autograd.grad(
        value, list(weights.values()), allow_unused=True, materialize_grads=True
    )
    if distributed.is_available() and distributed.is_initialized():
        for gradient in gradients:
            distributed.all_reduce(gradient)
            gradient /= distributed.get_world_size()
    with torch.no_grad():
        moves = offsets(list(weights.values()), gradients)
    moved = {
        name: weight + move for (name, weight), move in zip(weights.items(), moves, strict=True)
    }
    moved |= {name: buffer.clone() for name, buffer in model.named_buffers()}
    return loss(lambda images: functional_call(model, moved, (images,)))


def layerwise(gamma: float) -> Offsets:
    """Return v = gamma |w| g / |g| for each layer's weights, 0 for biases and norms (AWP)."""

    def offsets(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        return [
            gamma * w.norm() / (g.norm() + 1e-20) * g if w.ndim > 1 else torch.zeros_like(w)
            for w, g in zip(weights, gradients, strict=True)
        ]

    return offsets


def adaptive(rho: float) -> Offsets:
    """Return v = rho w^2 g / |w g|, the norm over all weights (Kwon et al. 2021)."""

    def offsets(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        pairs = list(zip(weights, gradients, strict=True))
        norm = torch.stack([(w * g).norm() for w, g in pairs]).norm()
        return [rho / (norm + 1e-12) * w.square() * g for w, g in pairs]

    return offsets
