"""A convolution that the kernel computes, forward and backward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..swapped import SwappedConv
from .after import After, empty_as
from .kernel import call


class KernelConv(SwappedConv):
    """A convolution by two functions of the kernel.

    Args:
        conv: The convolution; not changed.
        dtype: The type of its output.
        names: The functions, forward and backward.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, names: tuple[str, str]) -> None:
        super().__init__(conv, dtype)
        self.names = names
        self.forward_weights: Tensor
        self.backward_weights: Tensor
        forward, backward = self.weights()
        self.register_buffer("forward_weights", forward, persistent=False)
        self.register_buffer("backward_weights", backward, persistent=False)

    @abstractmethod
    def weights(self) -> tuple[Tensor, Tensor]:
        """Return those of the convolution as the two functions read them."""

    @torch.no_grad()
    def refresh(self) -> None:
        forward, backward = self.weights()
        self.forward_weights.copy_(forward)
        self.backward_weights.copy_(backward)

    def run(self, x: Tensor, after: After) -> Tensor:
        after = after._replace(bias=self.conv.bias)
        return call(self.names[0], x, self.forward_weights, self.empty(x), after)

    def back(
        self, gradient: Tensor, shape: Sequence[int], x: Tensor | None, after: After
    ) -> Tensor:
        out = empty_as(shape, gradient)
        return call(self.names[1], gradient, self.backward_weights, out, after)
