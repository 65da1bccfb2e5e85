"""Which device a process takes, on machines that have other ones than this."""

from __future__ import annotations

import sys
import time
from functools import partial

import pytest
import torch
from helpers.runs import Listener

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
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UsageProblem):  # in the first process too, which is the one to say it
        devices.pick()
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
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


@pytest.mark.parametrize(
    ("device", "most", "sizes"),
    [
        ("cuda", 256, {8: 256, 32: 256, 33: 240, 64: 64, 224: 5, 1024: 1}),
        ("cpu", 256, {8: 256, 16: 256, 28: 83, 32: 64, 64: 16, 96: 8, 128: 8, 224: 5, 1024: 1}),
        ("cpu", 512, {8: 512, 32: 64, 128: 8, 224: 8, 1024: 1}),
    ],
)
def test_a_batch_holds_as_many_pixels_as_usual(
    device: str, most: int, sizes: dict[int, int]
) -> None:
    for side, size in sizes.items():
        shape = (3, side, side)
        assert devices.images_at_once(shape, torch.device(device), most) == size


def test_bf16_is_measured_once_and_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []

    def seconds(operand: torch.Tensor) -> float:
        seen.append((operand.dtype, torch.get_num_threads()))
        return (8.0 if len(seen) < 3 else 2.0) if operand.dtype is torch.float32 else 0.5

    monkeypatch.setattr(devices, "_seconds", seconds)
    monkeypatch.setattr(torch, "ones", partial(torch.zeros, device="meta"))
    for _ in range(2):
        assert devices.bf16_gain(size=8, rounds=3) == 4.0
    assert seen == [(torch.float32, 1), (torch.bfloat16, 1)] * 3
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("precision", "device", "gain", "told"),
    [
        ("bf16", "cpu", 0.25, "fp32 multiplies 4 times as fast"),
        ("bf16", "cpu", 2.0, None),
        ("bf16", "cuda", 0.25, None),
        ("fp32", "cpu", 0.25, None),
    ],
)
def test_emulated_bf16_is_told(
    monkeypatch, precision: str, device: str, gain: float, told: str | None
) -> None:
    monkeypatch.setattr(devices, "bf16_gain", lambda: gain)
    heard = Listener()
    devices.tell_if_emulated(precision, torch.device(device), heard)
    assert [str(told) in text for text in heard.said] == [True] * (told is not None)


@pytest.mark.skipif(sys.platform == "win32", reason="threads have no fine clock there")
def test_the_clock_does_not_count_what_others_do() -> None:
    began = devices.thread_clock()
    time.sleep(0.1)
    assert 0 <= devices.thread_clock() - began < 0.05
