"""A convolution with a residual sum and a ReLU, by torch in float64 and by what is to be tested."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Joined = Callable[[Tensor, Tensor | None], Tensor]


def pairs(
    fast: Joined, plain: nn.Conv2d, x: Tensor, added: Tensor, relu: bool, residual: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what `fast` gives beside the exact: the output, and the gradient of each input.

    `residual` is `none`, or `wants a gradient`, or another word for a sum that wants none.
    """

    def ways(function: Joined, x: Tensor, added: Tensor) -> tuple[Tensor, ...]:
        x = x.clone().requires_grad_(True)
        added = added.clone().requires_grad_(residual == "wants a gradient")
        out = function(x, None if residual == "none" else added)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        wanted = [x, added] if added.requires_grad else [x]
        return out, *torch.autograd.grad((out * weights).sum(), wanted)

    double = copy.deepcopy(plain).double()

    def exact(x: Tensor, added: Tensor | None) -> Tensor:
        out = double(x) if added is None else double(x) + added
        return out.relu() if relu else out

    return zip(ways(fast, x, added), ways(exact, x.double(), added.double()), strict=True)
