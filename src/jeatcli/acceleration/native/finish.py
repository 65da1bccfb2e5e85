"""What follows a convolution, after one that is not the kernel's; in one pass where it is there."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn

from ...errors import JeatError
from .after import After, is_last
from .kernel import kernel
from .tape import Call

_FINISH = {torch.float32: "finish", torch.bfloat16: "finish_bf16"}


def finish(x: Tensor, after: After) -> Tensor:
    """Return what follows x (n, K, H, W), a gradient: neither bias, ReLU nor second result."""
    parts = (after.residual, after.cut, after.slope, after.mask, after.scale, after.more)
    if all(each is None for each in parts):
        return x
    out = torch.empty_like(x)
    if _run(x, out, after):
        return out
    assert after.mask is None, "what the kernel has not masked, it need not finish"
    if after.residual is not None:
        x = x + after.residual
    if after.cut is not None:
        x = _passed(x, after.cut, after)
    if after.slope is not None:
        x = x * after.slope
    if after.scale is not None:
        x = x * after.scale[:, None, None]
    return (x if after.more is None else x + after.more).to(out.dtype)


def normalise(x: Tensor, scale: Tensor | None, shift: Tensor | None, silu: bool = False) -> Tensor:
    """Return the activation of x (n, K, H, W), or of its multiple and a sum by channels (K,)."""
    out = torch.empty_like(x)
    if _run(x, None, After(scale_too=scale, shift_too=shift, too=out, silu=silu)):
        return out
    x = _affine(x, scale, shift)
    return (nn.functional.silu(x) if silu else x.relu()).to(out.dtype)


def _passed(gradient: Tensor, cut: Tensor, after: After) -> Tensor:
    """Return a gradient by the result of an activation as one by what it was given."""
    if not after.silu:
        passed: Tensor = torch.ops.aten.threshold_backward(gradient, cut, 0)
        return passed
    given = _affine(cut, after.scale_too, after.shift_too)
    sloped: Tensor = torch.ops.aten.silu_backward(gradient.to(given.dtype), given)
    return sloped


def _affine(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    if scale is None or shift is None:
        return x
    return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


def _run(x: Tensor, out: Tensor | None, after: After) -> bool:
    """Let the kernel do it; return whether it can.

    It is built if need be, not only used where it lies in the cache: the same run would otherwise
    round in two ways before and after.
    """
    library = None
    if x.device.type == "cpu" and is_last(x):
        with suppress(JeatError):  # `CXX` is no command, but nobody has asked for the kernel
            library = kernel()
    if library is None or x.shape[1] % library.lanes():
        return False
    name = _FINISH.get(x.dtype, "")
    if not hasattr(library, name):
        return False
    pixels = x.numel() // max(x.shape[1], 1)
    Call(name, x, None, out, after, (pixels, x.shape[1])).make(library)
    return True
