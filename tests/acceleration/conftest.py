"""An empty cache of kernels, and a processor whose speeds are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.networks import classifier
from helpers.speeds import Clock, asked

from jeatcli.acceleration import dispatch
from jeatcli.acceleration.native import amx, kernel
from jeatcli.acceleration.ways import KERNELS, Way


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """Let a test build a kernel of its own, in an empty cache."""
    monkeypatch.setenv("JEAT_CACHE_DIR", str(tmp_path))
    caches = (kernel.kernel, amx.has_tiles)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.fixture
def model():
    return classifier("cifar-resnet-8", "batch").eval()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("JEAT_CACHE_DIR", str(tmp_path))
    return tmp_path / "speeds"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Clock:
    """The speeds of a processor on which the kernel is there and wins from 32 channels."""
    speeds = {
        "library": 2e-3,
        "fused": 1.8e-3,
        "winograd": 3e-3,
        "winograd-32": 1e-3,
        "winograd-64": 1.5e-3,
        "amx": 2.5e-3,
    }
    monkeypatch.setattr(dispatch, "is_built", lambda: True)
    monkeypatch.setattr(
        dispatch._Bench, "swapped", lambda _, kernel: list(reversed(KERNELS)).index(kernel)
    )
    asked.clear()

    def seconds(_: object, way: Way, rounds: int) -> float:
        asked.extend([str(way)] * (rounds or 1))
        if str(way) not in speeds:
            raise RuntimeError("no compiler")
        return speeds[str(way)]

    monkeypatch.setattr(dispatch._Bench, "seconds", seconds)
    return speeds
