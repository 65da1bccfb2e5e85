"""Which of the architectures a state dict may belong to, by its names and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..core.models import ARCHITECTURES, NORM_LAYERS
from ..core.models.layers import Shape
from ..errors import UsageProblem

Shapes = Mapping[str, tuple[int, ...]]


def candidates(shapes: Shapes, like: Shape) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """Yield what could have such a state dict, each with the state dict it would have.

    An architecture with numbers in its name has a function `numbers`, which reads them off.

    Args:
        shapes: Of the tensors of a state dict, by name.
        like: What the network takes and gives.

    Yields:
        An architecture, a norm layer, and tensors without content.
    """
    for pattern, entry in ARCHITECTURES.items():
        module = entry.load()
        read = getattr(module, "numbers", lambda shapes: ())
        if (numbers := read(shapes)) is None:
            continue
        given = iter(numbers)
        words = pattern.split("-")
        name = "-".join(str(next(given)) if word.isupper() else word for word in words)
        for norm_layer in NORM_LAYERS:
            try:
                with torch.device("meta"):
                    net = module.make(replace(like, norm_layer=norm_layer), *numbers)
            except UsageProblem:
                break
            yield name, norm_layer, net.state_dict()
