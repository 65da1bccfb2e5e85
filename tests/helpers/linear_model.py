"""A linear classifier, whose distances to its boundaries are known, and images for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from jeatcli.core.models.classifier import Classifier
from jeatcli.core.threat import Threat
from jeatcli.robustness.attacks.batch import Batch

SHAPE = (1, 4, 4)
LINF, L2 = Threat("linf", 0.1), Threat("l2", 0.3)


class Linear(nn.Module):
    """f(x) = gain W x, in the form of a network; its features are computed, though exactly."""

    mixed_precision = True

    def __init__(self, classes: int = 5, gain: float = 1.0, shape: tuple[int, ...] = SHAPE) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        weight = torch.randn(classes, math.prod(shape), generator=generator)
        self.weight = nn.Parameter(gain * weight, requires_grad=False)

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ torch.eye(x[0].numel())

    def head(self, features: Tensor) -> Tensor:
        return features @ self.weight.T


def linear(gain: float = 1.0, classes: int = 5) -> Classifier:
    return Classifier(Linear(classes, gain), (0.0,), (1.0,))


def batch(model: Classifier, n: int = 40) -> Batch:
    """Return images in the middle of the range, all classified correctly."""
    x = 0.3 + 0.4 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    return Batch(x, model(x).argmax(1), None, torch.arange(n))


def distances(model: Classifier, images: Batch, norm: str) -> Tensor:
    """Return how far the nearest boundary of a linear model is, by the closed form."""
    logits, weight = model(images.x), model.net.weight
    assert isinstance(weight, Tensor)
    lead = logits.gather(1, images.y[:, None]) - logits
    normal = weight[images.y][:, None] - weight[None]
    length = normal.abs().sum(2) if norm == "linf" else normal.norm(dim=2)
    return (lead / length).nan_to_num(torch.inf).amin(1)
