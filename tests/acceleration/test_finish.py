"""What follows a convolution is computed alike with the kernel and without."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from jeatcli.acceleration.native import finish as finishing
from jeatcli.acceleration.native import kernel
from jeatcli.acceleration.native.after import After

HALF = torch.bfloat16


def layers(dtype: torch.dtype, channels: int, last: bool) -> list[Tensor]:
    """Return four arrays of pixels with NaN, infinities and zeros, and three of channels."""
    form = torch.channels_last if last else torch.contiguous_format
    torch.manual_seed(0)
    pixels = [torch.randn(2, channels, 3, 5) for _ in range(4)]
    for each in pixels:
        each.view(-1)[torch.randperm(each.numel())[:6]] = torch.tensor([0, -0.0, 1, 1, -1, 1])
        each.view(-1)[torch.randperm(each.numel())[:3]] = torch.tensor([1, -1, 0]) / 0
    scales = torch.tensor([-1.0, 0, 2]).repeat(channels)[:channels], torch.randn(channels)
    return [*(each.to(dtype).contiguous(memory_format=form) for each in pixels), *scales]


@pytest.fixture(params=[True, False])
def built(request, monkeypatch) -> None:
    """Compute with the kernel, and without."""
    if not request.param:
        monkeypatch.setattr(finishing, "kernel", lambda: None)
    elif kernel.kernel() is None:
        pytest.skip("needs a C++ compiler")


SHAPES = [(16, True), (80, True), (6, True), (16, False)]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize(("channels", "last"), SHAPES)
def test_what_follows_a_gradient(channels: int, last: bool, dtype: torch.dtype) -> None:
    x, residual, cut, more, scale, shift = layers(dtype, channels, last)
    by_channel = scale.double()[:, None, None]
    for chosen in range(32):
        after, expected = After(), x.double()
        if chosen & 1:
            after, expected = after._replace(residual=residual), expected + residual.double()
        if chosen & 16:
            after = after._replace(silu=True, scale_too=scale, shift_too=shift)
        if chosen & 2:
            after = after._replace(cut=cut)
            given = cut.double()
            if after.silu:
                given = given * by_channel + shift.double()[:, None, None]
                expected = torch.ops.aten.silu_backward(expected, given)
            else:  # as torch does, NaN lets a gradient through
                expected = torch.ops.aten.threshold_backward(expected, given, 0)
        if chosen & 4:
            after, expected = after._replace(scale=scale), expected * by_channel
        if chosen & 8:
            after, expected = after._replace(more=more), expected + more.double()
        found = finishing.finish(x, after.last())
        assert found.dtype is dtype
        assert (found is x) == (chosen % 16 == 0)
        rtol = 0.02 if dtype is HALF else 1e-5
        torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=rtol, equal_nan=True)


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize(("channels", "last"), SHAPES)
@pytest.mark.parametrize("silu", [False, True])
def test_a_normalisation_and_its_activation(
    channels: int, last: bool, dtype: torch.dtype, silu: bool
) -> None:
    x, *_, scale, shift = layers(dtype, channels, last)
    activation = nn.functional.silu if silu else torch.relu
    found = finishing.normalise(x, scale, shift, silu)
    expected = activation(x.double() * scale[:, None, None] + shift[:, None, None])
    assert found.dtype is dtype
    rtol = 0.01 if dtype is HALF else 1e-5
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=rtol, equal_nan=True)
    found = finishing.normalise(x, None, None, silu)
    rtol = rtol if silu else 0
    torch.testing.assert_close(
        found.double(), activation(x.double()), rtol=rtol, atol=rtol, equal_nan=True
    )
