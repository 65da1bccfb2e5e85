"""What follows a convolution, by torch in float64."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from jeatcli.acceleration.native.after import After, last

_PIXELS = ("residual", "cut", "slope", "more")
_CHANNELS = ("scale", "scale_too", "shift_too")


def followed(x: Tensor, after: After) -> tuple[Tensor, Tensor]:
    """Return what becomes of the exact result of a convolution, and the second result."""

    def by_channel(each: Tensor) -> Tensor:
        return each.double()[:, None, None]

    def normalised(each: Tensor) -> Tensor:
        if after.scale_too is None or after.shift_too is None:
            return each
        return each * by_channel(after.scale_too) + by_channel(after.shift_too)

    if after.bias is not None:
        x = x + by_channel(after.bias)
    if after.residual is not None:
        x = x + after.residual.double()
    if after.relu:
        x = x.relu()
    if after.cut is not None:
        cut = after.cut.double()
        silu, relu = torch.ops.aten.silu_backward, torch.ops.aten.threshold_backward
        x = silu(x, normalised(cut)) if after.silu else relu(x, cut, 0)
    for factor in (after.slope, None if after.scale is None else by_channel(after.scale)):
        x = x if factor is None else x * factor.double()
    if after.more is not None:
        x = x + after.more.double()
    second = normalised(x)
    if after.keep_slope:
        x = torch.ops.aten.silu_backward(torch.ones_like(second), second)
    return x, nn.functional.silu(second) if after.silu else second.relu()


def every(like: Tensor, names: tuple[str, ...]) -> Iterator[After]:
    """Yield each selection of what may follow a result like that; `too` comes with its scale.

    The scale of `cut`, as `too` has it, is `of_cut`.
    """
    torch.manual_seed(2)
    pixels, channels = like.shape, like.shape[1]
    given = {name: last(torch.randn(pixels), like.dtype) for name in _PIXELS}
    given["cut"][:, ::3] = 0
    given |= {name: torch.randn(channels) for name in _CHANNELS}
    for chosen in itertools.product((False, True), repeat=len(names)):
        taken = [name for name, is_taken in zip(names, chosen, strict=True) if is_taken]
        after = After(**{name: given[name] for name in taken if name in given})
        if "of_cut" in taken:
            after = after._replace(scale_too=given["scale_too"])
        if after.scale_too is not None:
            after = after._replace(shift_too=given["shift_too"])
        after = after._replace(silu="silu" in taken)
        if "too" in taken or "scale_too" in taken:
            after = after._replace(too=torch.full_like(like, torch.nan))
        if not after.silu:
            after = after._replace(slope=None)
        after = after._replace(
            keep_slope="keep_slope" in taken and after.silu and after.too is not None
        )
        yield after
