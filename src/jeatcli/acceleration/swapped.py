"""What replaces a convolution in attacks and chains; its weights get no gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .native.after import NOTHING, After, last


def is_plain(module: object, *kinds: type[nn.Module]) -> bool:
    """Return whether a layer is of one of these classes itself and does nothing beside.

    Subclasses may change their weights or results first, as hooks do (spectral normalisation).
    """
    if not isinstance(module, nn.Module) or type(module) not in kinds or "forward" in vars(module):
        return False
    return not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Return whether something is called before or after a layer."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks)
    return any((*hooks, module._backward_pre_hooks))


def fits_in(value: object, shape: Sequence[int]) -> bool:
    """Return whether a value is a tensor whose sum with one of that shape has that shape."""
    if not isinstance(value, Tensor) or value.dim() > len(shape):
        return False
    ends = zip(reversed(value.shape), reversed(shape), strict=False)
    return all(side in (1, whole) for side, whole in ends)


class SwappedConv(nn.Module, ABC):
    """The same function of images as a convolution, to rounding; its weights get no gradient.

    Args:
        conv: The convolution; not changed.
        dtype: The type of its output.

    Attributes:
        takes: The type of its input.
        relu: Whether a ReLU follows, after the sum with the residual if there is one.
        is_kernel: Whether our kernel computes it, and what follows it in the same pass.
        has_silu: Whether a SiLU costs less there than a pass over memory.
    """

    is_kernel: ClassVar[bool] = True
    has_silu: ClassVar[bool] = False

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv, self.dtype, self.takes = conv, dtype, dtype
        self.stride = list(conv.stride)
        same = isinstance(conv.padding, str)
        self.padding = [size // 2 for size in conv.kernel_size] if same else [*conv.padding]
        self.relu = False
        # Of a result, by those of an image; computed once, which takes as long as small layers.
        self._sides: dict[torch.Size, tuple[int, ...]] = {}

    @abstractmethod
    def refresh(self) -> None:
        """Update the weights after a change of those of the convolution."""

    @abstractmethod
    def run(self, x: Tensor, after: After) -> Tensor:
        """Return the convolution of x, its bias and what follows; no gradient."""

    @abstractmethod
    def back(
        self, gradient: Tensor, shape: Sequence[int], x: Tensor | None, after: After
    ) -> Tensor:
        """Return what follows the gradient by x, of that shape, given that by the result."""

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the result for x."""
        sides = x.shape[2:]
        found = self._sides.get(sides)
        if found is None:
            each = zip(sides, self.conv.kernel_size, self.stride, self.padding, strict=True)
            found = tuple((side + 2 * pad - size) // step + 1 for side, size, step, pad in each)
            self._sides = {sides: found}  # a new one: another thread may read the old
        return len(x), self.conv.out_channels, *found

    def empty(self, x: Tensor) -> Tensor:
        """Return an uninitialised result for x."""
        shape, form = self.shape(x), torch.channels_last
        return torch.empty(shape, dtype=self.dtype, device=x.device, memory_format=form)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return the convolution of x, plus the residual, if any."""
        shape = self.shape(x)
        if residual is None:
            return self.add(x, None, self.relu)
        if fits_in(residual, shape):
            return self.add(x, residual.to(self.dtype).expand(shape), self.relu)
        out = self.add(x, None, False) + residual  # which is larger, or a number
        return out.relu() if self.relu else out

    def add(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        """Return the convolution of x, plus a residual of its shape and type, if any."""
        residual = None if residual is None else last(residual)
        out: Tensor = _Convolution.apply(last(x, self.takes), residual, self, relu)
        return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, conv: SwappedConv, relu: bool
    ) -> Tensor:
        out, ctx.conv = conv.run(x, After(residual=residual, relu=relu)), conv
        # The weights tell whether they have changed since.
        ctx.save_for_backward(x, out if relu else None, *conv.buffers())
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, out, *_ = ctx.saved_tensors
        if out is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        by_x = ctx.conv.back(last(gradient), x.shape, x, NOTHING)
        return by_x, gradient if ctx.needs_input_grad[1] else None, None, None
