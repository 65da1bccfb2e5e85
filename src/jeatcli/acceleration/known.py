"""Operations of one tensor whose gradients are known, which saves autograd's graphs of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .native.after import empty_as
from .record import Record
from .steps import Step, Unsuited, call
from .swapped import is_plain

# The gradient by what was given, of that shape, of that by the result.
Back = Callable[[Tensor, torch.Size], Tensor]


class Known(Step):
    """An operation that returns one tensor of one tensor."""

    def __init__(self, node: fx.Node, body: fx.GraphModule, back: Back) -> None:
        super().__init__(node)
        self.node, self.body, self.back, (self.x,) = node, body, back, self.inputs

    def forward(self, record: Record) -> None:
        x = record.values[self.x]
        if not isinstance(x, Tensor):
            raise Unsuited
        record.keep(self.out, call(self.node, self.body, {self.x: x}).detach())

    def backward(self, record: Record) -> None:
        gradient = record.gradients.pop(self.out, None)
        if gradient is not None:
            record.add(self.x, self.back(gradient, record.shapes[self.x]))


def known(node: fx.Node, body: fx.GraphModule) -> Known | None:
    """Return the step of an operation if its gradient is known."""
    inputs = node.all_input_nodes
    if len(inputs) != 1 or node.args[:1] != (inputs[0],):
        return None
    if node.op == "call_module":
        back = _of_module(body.get_submodule(str(node.target)))
    else:
        back = _of_function(node.target, node.args[1:], node.kwargs)
    return None if back is None else Known(node, body, back)


def _of_module(module: Any) -> Back | None:
    if is_plain(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return _of_view
    if is_plain(module, nn.AdaptiveAvgPool2d) and module.output_size in _ONE:
        return _of_mean
    return None


def _of_function(target: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Back | None:
    if target is operator.getitem and _is_part(args[0]):
        return partial(_of_part, index=args[0])
    start = [*args, *kwargs.items()]
    if target in (torch.flatten, "flatten") and start in ([1], [("start_dim", 1)]):
        return _of_view
    if target is F.adaptive_avg_pool2d and len(args) == 1 and not kwargs and args[0] in _ONE:
        return _of_mean
    # What it is padded with has no gradient.
    mode = kwargs.get("mode", args[1] if len(args) > 1 else "constant")
    if target is F.pad and args and mode == "constant" and _are_numbers(args[0]):
        return partial(_of_pad, pads=args[0])
    return None


_ONE = (1, (1, 1), [1, 1])


def _is_part(index: object) -> bool:
    """Return whether these are slices whose ends are numbers, not results of the graph."""
    return isinstance(index, tuple) and all(type(each) is slice for each in index)


def _are_numbers(pads: object) -> bool:
    return isinstance(pads, tuple | list) and all(type(each) is int for each in pads)


def _of_part(gradient: Tensor, shape: torch.Size, index: tuple[slice, ...]) -> Tensor:
    whole = empty_as(shape, gradient).zero_()  # in the order of the images, unlike autograd's
    whole[index] = gradient
    return whole


def _of_pad(gradient: Tensor, shape: torch.Size, pads: Sequence[int]) -> Tensor:
    return F.pad(gradient, [-each for each in pads])


def _of_view(gradient: Tensor, shape: torch.Size) -> Tensor:
    return gradient.reshape(shape)


def _of_mean(gradient: Tensor, shape: torch.Size) -> Tensor:
    return (gradient / math.prod(shape[-2:])).expand(shape)
