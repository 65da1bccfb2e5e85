"""A rewritten network, forward and backward, in little more than the passes of its convolutions.

Where autograd takes a pass over memory for each ReLU, normalisation and sum, here these are done
while the result of the convolution before, or backward of the one after, is in registers. Of a
large batch so many images are taken at a time that the next layer finds them in the cache.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn

from .chain import parts_of
from .known import known
from .pieces import IMAGES, together
from .record import Record
from .steps import Affine, Convolve, Other, Step
from .swapped import SwappedConv, is_plain


class Passes:
    """The passes of a rewritten network; images alone get a gradient.

    Args:
        body: Its graph, with some convolutions swapped.
    """

    def __init__(self, body: fx.GraphModule) -> None:
        nodes = {node.op: node for node in body.graph.nodes}
        self.x = nodes["placeholder"].name
        self.out = nodes["output"].args[0].name
        self.steps = list(_steps(body))
        makers = {step.out: step for step in self.steps}
        live, ends = {self.x}, {}
        for step in self.steps:
            for name in step.inputs:
                ends[name] = step
                if name in makers:
                    makers[name].users.append(step)
            if live.intersection(step.inputs):
                live.add(step.out)
        for step in self.steps:
            first = step.users[0] if step.users else None
            if isinstance(first, Convolve) and first.x == step.out:
                first.maker = step
            if isinstance(step, Other):
                step.live = [name for name in step.inputs if name in live]
            if isinstance(step, Affine):
                _join(step, makers.get(step.x), step.out == self.out)
                alone = step.is_made and makers[step.x].users == [step]
                step.is_alone = alone and step.x != self.out
        self.kept = {name for step in self.steps for name in step.kept}
        ends.pop(self.out, None)
        self.updates = 0
        # Whether an image's result is the same without the others; None if nobody has looked.
        self.independent: bool | None = None
        self._together: dict[torch.Size, int] = {}
        over = [[name for name in step.inputs if ends.get(name) is step] for step in self.steps]
        self.parts = [*parts_of(self.steps, over, self.kept)]

    def refresh(self) -> None:
        """Update what depends on the weights."""
        self.updates += 1
        for step in self.steps:
            if isinstance(step, Affine):
                step.refresh()
        for part in self.parts:
            part.refresh()

    def __call__(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            out: Tensor = _Passes.apply(x, self)
            return out
        with torch.no_grad():
            parts = [self.forward(piece, Record(wanted=False)) for piece in self.pieces(x)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def pieces(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the images in the pieces that go through the layers one after the other."""
        count = round(len(x) / self._together.get(x.shape[1:], IMAGES)) if self.independent else 1
        return x.tensor_split(count) if count > 1 else (x,)

    def forward(self, x: Tensor, record: Record) -> Tensor:
        """Return the result; leave in the record what the backward pass needs."""
        record.keep(self.x, x)
        for part in self.parts:
            part.forward(record)
        if len(x) and x.shape[1:] not in self._together:
            sizes = (
                math.prod(each) * record.dtypes[name].itemsize
                for name, each in record.shapes.items()
            )
            # A new one: another thread may read the old.
            self._together = {x.shape[1:]: together(max(sizes) // len(x))}
        out: Tensor = record.values[self.out]
        return out

    def backward(self, gradient: Tensor, record: Record) -> Tensor | None:
        """Return the gradient by the images of what has that gradient by the result."""
        record.gradients[self.out] = gradient
        for part in reversed(self.parts):
            part.backward(record)
        return record.gradients.get(self.x)


class _Passes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, passes: Passes) -> Tensor:
        names, pieces, out = [*passes.kept], passes.pieces(x), []
        tensors: list[Tensor] = []
        ctx.records, ctx.sizes = [], [len(piece) for piece in pieces]
        for piece in pieces:
            record = Record()
            out.append(passes.forward(piece, record))
            kept = [*(record.values[name] for name in names), *record.saved.tensors]
            record.values, record.saved.tensors = {}, []
            ctx.records.append((record, slice(len(tensors), len(tensors) + len(kept))))
            tensors += kept
        ctx.save_for_backward(*tensors)
        ctx.names, ctx.passes, ctx.updates = names, passes, passes.updates
        return torch.cat(out) if len(out) > 1 else out[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:
        if ctx.updates != ctx.passes.updates:
            raise RuntimeError("the weights were updated between the forward and the backward pass")
        pieces = zip(ctx.records, gradient.split(ctx.sizes), strict=True)
        parts = [
            _back(ctx.passes, piece, record, ctx.names, ctx.saved_tensors[kept])
            for (record, kept), piece in pieces
        ]
        found = [part for part in parts if part is not None]
        return (torch.cat(found) if len(found) > 1 else found[0]) if found else None, None


def _back(
    passes: Passes,
    gradient: Tensor,
    before: Record,
    names: Sequence[str],
    tensors: Sequence[Tensor],
) -> Tensor | None:
    """Go back through the layers, with the results of these names and what autograd has saved."""
    count = len(names)
    before.saved.tensors = [*tensors[count:]]
    try:
        # There may be several backward passes, even at once.
        values = dict(zip(names, tensors[:count], strict=True))
        record = replace(before, values=values, gradients={}, cut=set())
        return passes.backward(gradient, record)
    finally:
        before.saved.tensors = []


def _steps(body: fx.GraphModule) -> Iterable[Step]:
    """Yield the operations in order: a normalisation and the activation alone after it as one."""
    modules = dict(body.named_modules())
    passed: set[fx.Node] = set()
    silu = any(isinstance(each, SwappedConv) and each.has_silu for each in modules.values())
    kinds = (nn.ReLU, nn.SiLU) if silu else (nn.ReLU,)
    for node in body.graph.nodes:
        if node.op in ("placeholder", "output") or node in passed:
            continue
        module = modules[node.target] if node.op == "call_module" else None
        follower = next(iter(node.users)) if len(node.users) == 1 else None
        if isinstance(module, SwappedConv):
            yield Convolve(node, module)
        elif _is_affine(module) and follower is not None and _activation(follower, modules, kinds):
            passed.add(follower)
            step = Affine(node, module, _activation(follower, modules, kinds) is nn.SiLU)
            step.out = follower.name
            yield step
        elif activation := _activation(node, modules, kinds):
            yield Affine(node, None, activation is nn.SiLU)
        else:
            yield known(node, body) or Other(node, body)


def _is_affine(module: nn.Module | None) -> TypeGuard[nn.BatchNorm2d]:
    if not is_plain(module, nn.BatchNorm2d):
        return False
    assert isinstance(module, nn.BatchNorm2d)
    return module.running_var is not None and not module.training


def _activation(
    node: fx.Node, modules: Mapping[str, nn.Module], kinds: Sequence[type[nn.ReLU | nn.SiLU]]
) -> type[nn.ReLU | nn.SiLU] | None:
    """Return the activation that it is, if it is one of these and changes nothing others read."""
    module = modules[str(node.target)] if node.op == "call_module" else None
    if not is_plain(module, *kinds):
        return None
    assert isinstance(module, nn.ReLU | nn.SiLU)
    before = node.all_input_nodes[0]
    if module.inplace and not (len(before.users) == 1 and _is_new(before, modules)):
        return None
    return type(module)


def _is_new(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether its result lies in memory of its own, and not in that of its input."""
    kinds = SwappedConv | nn.Conv2d | nn.BatchNorm2d | nn.Linear
    return node.target is operator.add or isinstance(modules.get(str(node.target)), kinds)


def _join(step: Affine, before: Step | None, is_result: bool) -> None:
    """Let the convolution before compute a normalisation, and give it the type of those after."""
    users = [user.swap for user in step.users if isinstance(user, Convolve)]
    types = {swap.takes for swap in users}
    if len(users) == len(step.users) and len(types) == 1 and not is_result:
        step.dtype = types.pop()
    if not isinstance(before, Convolve) or before.normalised is not None:
        return
    if before.swap.is_kernel:
        before.normalised, step.is_made = step, True
