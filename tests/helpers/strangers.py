"""A small network that is none of ours, and how it is written as an exported program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# That pixels are as they are: in Python, and on the command line.
RAW = {"mean": (0.0,), "std": (1.0,)}
DESCRIBED = ("--dataset", "digits", "--mean", "0", "--std", "1", "--device", "cpu")


def exported(net: nn.Module, path: Path, image: tuple[int, ...] = (3, 32, 32)) -> Path:
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(net, (torch.rand(2, *image),), dynamic_shapes=sizes)
    torch.export.save(program, path)
    return path


class Net(nn.Module):
    """A linear network of the digits, with whatever is wrong with it."""

    def __init__(self, after: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64)
        self.linear = nn.Linear(64, 10)
        self.after = after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.linear(self.norm(x.flatten(1))))
