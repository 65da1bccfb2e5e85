"""What a pass through a rewritten network keeps for the operations after, and for the way back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge


class Saved(threading.local):
    """The tensors that autograd's graphs save: a graph holds their numbers.

    The tensors are saved with our own, and freed with them. Each thread that goes backward has a
    list.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def pack(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def unpack(self, number: int) -> Tensor:
        return self.tensors[number]


@dataclass
class Record:
    """What the backward pass takes from the forward one, by the name of the result."""

    wanted: bool = True  # whether there will be a backward pass
    values: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    # Of the operations that autograd differentiates: the inputs, and where they and the result are.
    graphs: dict[str, tuple[list[str], list[GradientEdge], GradientEdge]] = field(
        default_factory=dict
    )
    saved: Saved = field(default_factory=Saved)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)  # whose gradient has passed the ReLU before

    def keep(self, name: str, value: Any) -> None:
        """Keep a result for its users."""
        self.values[name] = value
        if isinstance(value, Tensor):
            self.shapes[name], self.dtypes[name] = value.shape, value.dtype

    def add(self, name: str, gradient: Tensor) -> None:
        """Add a user's share of the gradient by a result."""
        dtype = self.dtypes[name]
        if gradient.dtype is not dtype:
            gradient = gradient.to(dtype)
        before = self.gradients.get(name)
        self.gradients[name] = gradient if before is None else before + gradient


def mask_of(name: str) -> str:
    """Return under which name a record has where a ReLU's result is positive."""
    return f"{name}/mask"
