"""Methods on a small network, and losses against a formula written out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jeatcli import methods
from jeatcli.core.class_gaussians import ClassGaussians
from jeatcli.core.jeat import AdversarialExamples, Method, MethodContext
from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.models.layers import Shape
from jeatcli.core.rng import BatchRng

X = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(24) % 4
PIXELS = (255 * X).to(torch.uint8)
ATTACK = {"eps": 0.1, "attack_steps": 2}


def network(norm_layer: str = "none") -> Classifier:
    torch.manual_seed(0)
    shape = Shape((1, 8, 8), 4, norm_layer, "silu")
    return Classifier(build("small", shape), [0.3], [0.4]).train()


def made(name: str, **options: Any) -> Method:
    method = methods.make(name, options)
    method.setup(MethodContext(PIXELS, ClassGaussians.fit(PIXELS, Y, 4), len(X), 0))
    return method


def attacked(name: str, **options: Any) -> Tensor:
    method = made(name, **options)
    assert isinstance(method, AdversarialExamples)
    return method.attack(network(), X, Y, BatchRng(3))


def gradients(loss: Tensor, model: Classifier) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def agree(loss: Tensor, model: Classifier, known: Tensor, other: Classifier) -> None:
    """The loss and its gradient are those of the formula."""
    torch.testing.assert_close(loss, known)
    pairs = zip(gradients(loss, model), gradients(known, other), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def step(model: Classifier, start: Tensor, size: float) -> Tensor:
    start = start.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(F.cross_entropy(model(start), Y, reduction="sum"), start)
    return (start + size * slope.sign()).detach()
