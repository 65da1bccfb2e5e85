"""The operations of a rewritten network, each with its forward and its backward pass."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks

from .native.after import NOTHING, After, bits_as, last
from .native.finish import finish, normalise
from .record import Record, mask_of
from .swapped import SwappedConv, fits_in


class Unsuited(Exception):
    """An operation returns several tensors, changes one in place, or adds what is larger."""


class Step(ABC):
    """An operation, its inputs and its result, by name."""

    def __init__(self, node: fx.Node) -> None:
        self.out = node.name
        self.inputs = [each.name for each in node.all_input_nodes]
        self.users: list[Step] = []  # in order

    @abstractmethod
    def forward(self, record: Record) -> None:
        """Keep the result of what was kept before."""

    @abstractmethod
    def backward(self, record: Record) -> None:
        """Turn the gradient by the result into shares of those by the inputs."""

    @property
    def kept(self) -> Iterable[str]:
        """The results that the backward pass reads."""
        return ()


class Convolve(Step):
    """A convolution, a sum with a residual and a ReLU."""

    def __init__(self, node: fx.Node, swap: SwappedConv) -> None:
        super().__init__(node)
        self.swap = swap
        self.x, *others = (each.name for each in node.args if isinstance(each, fx.Node))
        self.residual = others[0] if others else None
        self.maker: Step | None = None  # of x, if this is its first user, the last one backward
        self.normalised: Affine | None = None  # what is computed in the same pass

    @property
    def kept(self) -> Iterable[str]:
        if not self.swap.is_kernel:
            yield self.x
        if self.has_mask:
            yield mask_of(self.out)
        elif self.swap.relu:
            yield self.out

    @property
    def has_mask(self) -> bool:
        """Whether it tells where its ReLU lets the gradient pass, by a bit for each number."""
        return self.swap.relu and self.swap.is_kernel and self.normalised is None

    def forward(self, record: Record) -> None:
        values, swap = record.values, self.swap
        x, residual, made = last(values[self.x], swap.takes), None, After()
        if self.residual is not None:
            residual, shape = values[self.residual], swap.shape(x)
            if not fits_in(residual, shape):
                raise Unsuited
            if residual.shape != shape:
                residual = residual.expand(shape)
            residual = last(residual, swap.dtype)
        following = self.normalised
        if following is not None:
            made = following.made(swap.empty(x), record)
            record.keep(following.out, made.too)
        elif self.has_mask and record.wanted:
            made = After(positive=bits_as(swap.shape(x), x.device))
            record.values[mask_of(self.out)] = made.positive
        after = made._replace(residual=residual, relu=swap.relu)
        record.keep(self.out, swap.run(x, after))

    def backward(self, record: Record) -> None:
        gradient = record.gradients.pop(self.out, None)
        if gradient is None:
            return
        if self.swap.relu and self.out not in record.cut:
            gradient = finish(last(gradient), self.passing(record).last())
        if self.residual is not None:
            shape = record.shapes[self.residual]
            record.add(
                self.residual, gradient if gradient.shape == shape else gradient.sum_to_size(shape)
            )
        dtype, name, maker = self.swap.takes, self.x, self.maker
        x, shape, after = record.values.get(name), record.shapes[name], NOTHING
        if record.dtypes[name] is dtype:
            after = After(residual=record.gradients.pop(name, None))
            if isinstance(maker, Affine) and record.dtypes[maker.x] is dtype:
                name = maker.x
                after = maker.after(record, residual=after.residual)
                after = after._replace(more=record.gradients.pop(name, None))
            elif isinstance(maker, Convolve) and maker.swap.relu:
                after = maker.passing(record, after)
                record.cut.add(name)
        record.add(name, self.swap.back(last(gradient), shape, x, after.last()))

    def passing(self, record: Record, after: After = NOTHING) -> After:
        """Return what lets a gradient by the result pass the ReLU, beside what follows already."""
        if self.has_mask:
            return after._replace(mask=record.values[mask_of(self.out)])
        return after._replace(cut=record.values[self.out])


class Affine(Step):
    """An activation, ReLU or SiLU, and maybe a normalisation by running statistics before it."""

    def __init__(self, node: fx.Node, norm: nn.BatchNorm2d | None, silu: bool) -> None:
        super().__init__(node)
        self.norm, (self.x,), self.silu = norm, self.inputs, silu
        self.scale: Tensor | None = None
        self.shift: Tensor | None = None
        self.dtype: torch.dtype | None = None  # of the convolutions that alone use it
        self.is_made = False  # whether a convolution computes it
        self.is_alone = False  # whether nothing else reads x
        self.refresh()

    @property
    def kept(self) -> Iterable[str]:
        if self.has_mask:
            yield mask_of(self.out)
        else:
            yield self.x if self.silu else self.out

    @property
    def has_mask(self) -> bool:
        """Whether the convolution that computes it tells by bits where the ReLU lets pass."""
        return self.is_made and not self.silu

    @torch.no_grad()
    def refresh(self) -> None:
        """Update what depends on the weights."""
        norm = self.norm
        if norm is None:
            return
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weight = 1.0 if norm.weight is None else norm.weight.detach()
        bias = 0.0 if norm.bias is None else norm.bias.detach()
        scale = weight * (norm.running_var + norm.eps).rsqrt()
        shift = bias - norm.running_mean * scale
        if self.scale is None or self.shift is None:
            self.scale, self.shift = scale, shift
        else:  # where the kernel's calls find them
            self.scale.copy_(scale)
            self.shift.copy_(shift)

    def forward(self, record: Record) -> None:
        if not self.is_made:
            x = record.values[self.x]
            out = normalise(x, self.scale, self.shift, self.silu)
            record.keep(self.out, out.to(self.dtype or x.dtype))

    def backward(self, record: Record) -> None:
        gradient = record.gradients.pop(self.out, None)
        if gradient is not None:  # else the first user has passed it on
            after = self.after(record).last()
            given = after.slope if after.cut is None else after.cut
            dtype = None if given is None else given.dtype
            record.add(self.x, finish(last(gradient, dtype), after))

    @property
    def has_slope(self) -> bool:
        """Whether the convolution that computes it gives the SiLU's slope, as nothing else is used.

        It is kept in the place of x, which takes no more memory.
        """
        return self.is_made and self.silu and self.is_alone

    def made(self, too: Tensor, record: Record) -> After:
        """Return what fills `too` with the result, after a convolution that makes x."""
        positive = None
        if self.has_mask and record.wanted:
            positive = record.values[mask_of(self.out)] = bits_as(too.shape, too.device)
        made = After(scale_too=self.scale, shift_too=self.shift, too=too, silu=self.silu)
        keep_slope = self.has_slope and record.wanted
        return made._replace(positive=positive, keep_slope=keep_slope)

    def after(self, record: Record, residual: Tensor | None = None) -> After:
        """Return what makes the gradient by x of that by the result, a share of it being given."""
        if self.has_mask:
            mask = record.values[mask_of(self.out)]
            return After(residual=residual, mask=mask, scale=self.scale)
        if not self.silu:
            return After(residual=residual, cut=record.values[self.out], scale=self.scale)
        if self.has_slope:
            slope = record.values[self.x]
            return After(residual=residual, slope=slope, scale=self.scale, silu=True)
        cut, scale, shift = record.values[self.x], self.scale, self.shift
        given = After(residual=residual, cut=cut, scale=scale, silu=True)
        return given._replace(scale_too=scale, shift_too=shift)


class Other(Step):
    """Anything else, by autograd."""

    def __init__(self, node: fx.Node, body: fx.GraphModule) -> None:
        super().__init__(node)
        self.node, self.body = node, body
        self.live: list[str] = []  # the inputs that depend on the images

    def forward(self, record: Record) -> None:
        values, saved = {name: record.values[name] for name in self.inputs}, record.saved
        edges: dict[str, GradientEdge] = {}
        with torch.set_grad_enabled(record.wanted), saved_tensors_hooks(saved.pack, saved.unpack):
            for name in self.live if record.wanted else ():
                if isinstance(values[name], Tensor) and values[name].is_floating_point():
                    values[name] = _Enter.apply(_TOKEN, values[name])
                    edges[name] = get_gradient_edge(values[name])
            versions = [values[name]._version for name in edges]
            out = call(self.node, self.body, values)
        if isinstance(out, tuple | list) and any(isinstance(each, Tensor) for each in out):
            raise Unsuited
        if versions != [values[name]._version for name in edges]:
            raise Unsuited
        if isinstance(out, Tensor):
            if edges and out.requires_grad:
                record.graphs[self.out] = [*edges], [*edges.values()], get_gradient_edge(out)
            out = out.detach()
        record.keep(self.out, out)

    def backward(self, record: Record) -> None:
        gradient = record.gradients.pop(self.out, None)
        if gradient is None or self.out not in record.graphs:
            return
        names, edges, out = record.graphs[self.out]
        # Retained: another sum of the results may ask for its gradient.
        found = torch.autograd.grad([out], edges, [gradient], retain_graph=True, allow_unused=True)
        for name, each in zip(names, found, strict=True):
            if each is not None:
                record.add(name, each)


class _Enter(torch.autograd.Function):
    """Where a graph begins. A leaf would keep its tensor as long as the graph lives."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, x: Tensor) -> Tensor:
        return x.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        return None, None


_TOKEN = torch.empty(0, requires_grad=True)


def call(node: fx.Node, body: fx.GraphModule, values: Mapping[str, Any]) -> Any:
    """Return the result of an operation, given those that it takes by their names."""
    args = fx.map_arg(node.args, lambda each: values[each.name])
    kwargs = fx.map_arg(node.kwargs, lambda each: values[each.name])
    if node.op == "call_module":
        return body.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(body)
    assert callable(node.target)
    return node.target(*args, **kwargs)
