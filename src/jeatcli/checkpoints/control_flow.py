"""Branches and loops of exported programs, run by Python.

torch traces a branch or loop anew for each gradient, which takes longer than most networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

_Part = Callable[..., Sequence[Any]]


def run_by_python(program: nn.Module) -> None:
    """Let a program, and the parts of it, run its branches and loops as Python does."""
    for part in program.modules():
        if isinstance(part, fx.GraphModule):
            for node in part.graph.nodes:
                if isinstance(node.target, torch._ops.HigherOrderOperator):
                    node.target = _RUN.get(node.target.name(), node.target)
            part.recompile()


def _cond(
    condition: bool | Tensor, one: _Part, other: _Part, operands: Sequence[Any] = ()
) -> Sequence[Any]:
    return (one if condition else other)(*operands)


def _while_loop(
    condition: Callable[..., Any], body: _Part, state: Sequence[Any], more: Sequence[Any] = ()
) -> Sequence[Any]:
    while _single(condition(*state, *more)):
        state = body(*state, *more)
    return state


def _single(result: Any) -> Any:  # noqa: ANN401  a graph may return a tuple of one
    return result[0] if isinstance(result, list | tuple) else result


def _map(part: _Part, each: Sequence[Tensor], more: Sequence[Any] = ()) -> list[Tensor]:
    """Apply a part to each line of tensors, and stack what it returns."""
    results = [part(*line, *more) for line in zip(*each, strict=True)]
    return [torch.stack([*column]) for column in zip(*results, strict=True)]


def _scan(
    part: _Part, start: Sequence[Any], each: Sequence[Tensor], more: Sequence[Any] = ()
) -> list[Any]:
    """Apply a part to a state and each line of tensors: the last state, and the rest stacked."""
    state, kept = [*start], []
    for line in zip(*each, strict=True):
        state, rest = (found := [*part(*state, *line, *more)])[: len(state)], found[len(state) :]
        kept.append(rest)
    return state + [torch.stack([*column]) for column in zip(*kept, strict=True)]


_RUN: dict[str, Callable[..., Any]] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "map_impl": _map,
    "scan": _scan,
}
