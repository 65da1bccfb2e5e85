"""Networks of random weights to test on."""

from __future__ import annotations

import torch

from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.models.layers import Shape


def classifier(
    arch: str = "small",
    norm: str = "none",
    image: tuple[int, int, int] = (3, 32, 32),
    activation: str = "silu",
) -> Classifier:
    torch.manual_seed(0)
    shape = Shape(image, 10, norm, activation)
    return Classifier(build(arch, shape), [0.5] * image[0], [0.25] * image[0])
