"""Which device a process takes, on machines that have other ones than this."""

from __future__ import annotations

import pytest
import torch

from jeatcli.errors import UsageProblem
from jeatcli.runtime import devices


def having(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be so many CUDA devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    having(2, monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert devices.pick() == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageProblem, match=r"CUDA devices \(2\)") as caught:
        devices.pick()
    assert "--nproc-per-node 2" in (caught.value.hint or "")


def test_cuda_computes_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    having(1, monkeypatch)
    cudnn = torch.backends.cudnn
    with cudnn.flags(benchmark=True, deterministic=False, allow_tf32=True):
        devices.pick("cuda")
        assert cudnn.deterministic
        assert not cudnn.benchmark
        assert not cudnn.allow_tf32


def test_a_batch_holds_as_many_pixels_as_usual() -> None:
    sides = {8: 256, 32: 256, 33: 240, 64: 64, 224: 5, 1024: 1}
    for side, size in sides.items():
        assert devices.images_at_once((3, side, side), 256) == size
