"""The kernel of a processor whose vectors are half as long."""

from __future__ import annotations

import pytest
import torch
from helpers.convolutions import both, conv, needs_compiler
from helpers.wired import exact
from torch import nn

from jeatcli.acceleration.native import kernel
from jeatcli.acceleration.native.convolution import WinogradConv, fits
from jeatcli.acceleration.native.direct import PointConv, StemConv, direct
from jeatcli.acceleration.native.finish import normalise


@needs_compiler
@pytest.mark.skipif(
    "avx512" not in torch.backends.cpu.get_cpu_capability().lower(), reason="needs AVX-512"
)
def test_shorter_vectors_give_the_same(monkeypatch, anew) -> None:
    monkeypatch.setattr(kernel, "_FLAGS", (*kernel._FLAGS, "-mno-avx512f"))
    library = kernel.kernel()
    assert library is not None
    assert library.lanes() == 8
    channels = [(48, 32), (8, 24), (24, 40)]
    convolutions = [
        *(conv(*each, stride=stride) for each in channels for stride in (1, 2)),
        *(nn.Conv2d(*each, 1, stride) for each in channels for stride in (1, 2)),
        *(conv(inputs, outputs) for inputs in (1, 3) for outputs in (8, 48)),
    ]
    for plain in convolutions:
        kind = WinogradConv if fits(plain) else direct(plain, torch.float32)
        assert kind is not None
        fast = kind(plain.requires_grad_(False), torch.float32)
        for size in [(3, 9, 8), (1, 2, 17)]:
            x = torch.randn(size[0], plain.in_channels, *size[1:])
            for one, other in zip(both(fast, x), exact(plain, x), strict=True):
                torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4)
    assert direct(nn.Conv2d(12, 16, 1), torch.float32) is None
    assert direct(nn.Conv2d(8, 8, 1), torch.float32) is PointConv
    assert direct(conv(3, 8), torch.float32) is StemConv
    assert direct(conv(3, 16), torch.bfloat16) is None
    x = torch.randn(2, 24, 3, 5).contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalise(x, None, None), x.relu())
