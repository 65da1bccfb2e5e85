"""Which of the architectures a state dict may belong to, by its names and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..core.models import ARCHITECTURES, NORM_LAYERS, Shapes
from ..core.models.layers import Shape
from ..errors import UsageProblem


def candidates(shapes: Shapes, like: Shape) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """Yield what could have such a state dict, each with the state dict it would have.

    Args:
        shapes: Of the tensors of a state dict, by name.
        like: What the network takes and gives.

    Yields:
        An architecture, a norm layer, and tensors without content.
    """
    for pattern, entry in ARCHITECTURES.items():
        if (numbers := entry.numbers(shapes)) is None:
            continue
        given = iter(numbers)
        words = pattern.split("-")
        name = "-".join(str(next(given)) if word.isupper() else word for word in words)
        for norm_layer in NORM_LAYERS:
            try:
                with torch.device("meta"):
                    net = entry.load()(replace(like, norm_layer=norm_layer), *numbers)
            except UsageProblem:
                break
            yield name, norm_layer, net.state_dict()
