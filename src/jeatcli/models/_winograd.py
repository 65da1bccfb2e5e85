"""Convolutions on a CPU by Winograd's F(4x4, 3x3), in a quarter of the products.

(Lavin and Gray 2016.) Torch's own convolutions use it on graphics cards, not on a CPU. The kernel
is C++, which the machine's own compiler translates at first use; where there is none, nothing
changes. Its rounding errors are some ten times those of a sum of products, and a hundredth of
bfloat16's. The transformed weights of a frozen network take eight times the memory of the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._kernel import kernel

# What takes three weights to six points (F(4, 3), points 0, 1, -1, 2, -2 and infinity).
_POINTS = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)


class WinogradConv(nn.Module):
    """The same function of images as a convolution, to rounding; its weights get no gradient.

    Args:
        conv: The convolution, one that `fits`; it stays as it is.

    Attributes:
        relu: Whether a ReLU follows, after the sum with the residual if there is one.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.relu = False
        self.ahead: Tensor
        self.back: Tensor
        self.register_buffer("ahead", _transformed(conv.weight), persistent=False)
        self.register_buffer("back", _transformed(_reverse(conv.weight)), persistent=False)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the weights anew, after they have changed."""
        self.ahead.copy_(_transformed(self.conv.weight))
        self.back.copy_(_transformed(_reverse(self.conv.weight)))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return the convolution of x, plus the residual, if any, that has the same shape."""
        out: Tensor = _convolve(x, self.ahead, self.back, self.conv.bias, residual, self.relu)
        return out


class LearningConv(nn.Conv2d):
    """A convolution that `fits`, by Winograd's algorithm, whose weights get their gradient too."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _learn(x, self.weight)
        return out if self.bias is None else out + self.bias[:, None, None]


def install(net: nn.Module) -> None:
    """Make every convolution of a network that fits a `LearningConv`; weights and names stay."""
    for module in net.modules():
        if type(module) is nn.Conv2d and fits(module):
            # As torch's own parametrisations do it: whoever holds the module need not know.
            module.__class__ = LearningConv


def fits(conv: nn.Module) -> bool:
    """Return whether the kernel can stand for this module here: the build is tried, once."""
    return (
        isinstance(conv, nn.Conv2d)
        and (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and conv.padding in ((1, 1), "same")
        and (conv.padding_mode, conv.groups) == ("zeros", 1)
        and (conv.weight.device.type, conv.weight.dtype) == ("cpu", torch.float32)
        and (library := kernel()) is not None
        and not (conv.in_channels % library.lanes() or conv.out_channels % library.lanes())
    )


# Torch keeps what it compiled from one run to the next, the way back included, and knows an
# operator by its name and what it is given: one whose way back changes needs another name.
@torch.library.custom_op(
    "jeat::winograd",
    mutates_args=(),
    schema="(Tensor x, Tensor ahead, Tensor back, Tensor? bias, Tensor? residual, bool relu)"
    " -> Tensor",
)
def _convolve(
    x: Tensor, ahead: Tensor, back: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool
) -> Tensor:
    if residual is not None:
        residual = _channels_last(residual)
    return _run(x, ahead, bias=bias, residual=residual, relu=relu)


@torch.library.custom_op(
    "jeat::winograd_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor back) -> Tensor",
)
def _convolve_back(gradient: Tensor, x: Tensor, back: Tensor) -> Tensor:
    # No number of `x` is read. But torch's compiler then keeps it, as for any convolution, and
    # sees in it where the activation was flat; else it writes a mask, at ten times the time.
    return _run(gradient, back)


@torch.library.custom_op(
    "jeat::winograd_learning", mutates_args=(), schema="(Tensor x, Tensor weight) -> Tensor"
)
def _learn(x: Tensor, weight: Tensor) -> Tensor:
    return _run(x, _transformed(weight))


@torch.library.custom_op(
    "jeat::winograd_learning_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor weight) -> Tensor",
)
def _learn_back(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return _run(gradient, _transformed(_reverse(weight)))


def _run(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Call the kernel, which says what these are."""
    library = kernel()
    assert library is not None
    x = _channels_last(x)
    out = _room(x, _outputs(weight))
    assert residual is None or residual.shape == out.shape
    arrays = (x, weight, out, bias, residual)
    pointers = [None if array is None else array.data_ptr() for array in arrays]
    n, inputs, height, width = x.shape
    library.winograd(*pointers, relu, n, height, width, inputs, out.shape[1])
    return out


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _room(x: Tensor, channels: int) -> Tensor:
    """Return room for so many channels of the places of x, of unknown content."""
    return x.new_empty(len(x), *x.shape[2:], channels).permute(0, 3, 1, 2)


def _outputs(weight: Tensor) -> int:
    """Return how many channels come out, of transformed weights."""
    return weight.shape[1] * weight.shape[3]


@_convolve.register_fake
def _(x: Tensor, ahead: Tensor, *_: object) -> Tensor:
    return _room(x, _outputs(ahead))


@_learn.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return _room(x, len(weight))


@_convolve_back.register_fake
@_learn_back.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return _room(gradient, x.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, back, _, _, relu = inputs
    ctx.save_for_backward(x, output if relu else None, back)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, out, back = ctx.saved_tensors
    if out is not None:
        gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
    by_residual = gradient if ctx.needs_input_grad[4] else None
    return _convolve_back(gradient, x, back), None, None, None, by_residual, None


def _keep_learning(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _learn_from(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = ctx.saved_tensors
    ones, none = [1, 1], [0, 0]
    _, slope, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, ones, ones, ones, False, none, 1, [False, True, False]
    )
    return _learn_back(gradient, x, weight), slope


_convolve.register_autograd(_differentiate, setup_context=_keep)
_learn.register_autograd(_learn_from, setup_context=_keep_learning)


def _reverse(weight: Tensor) -> Tensor:
    """Return the weights of the convolution that takes gradients back."""
    return weight.flip(2, 3).transpose(0, 1)


def _transformed(weight: Tensor) -> Tensor:
    """Return weights (K, C, 3, 3) at the 36 points, (36, K / panel, C, panel)."""
    library = kernel()
    assert library is not None
    outputs, inputs = weight.shape[:2]
    panel = library.panel(outputs)
    both = torch.kron(_POINTS, _POINTS)
    points = weight.detach().double().reshape(outputs * inputs, 9) @ both.T
    panels = points.float().view(outputs // panel, panel, inputs, 36)
    return panels.permute(3, 0, 2, 1).contiguous()
