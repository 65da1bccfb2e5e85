"""An empty cache of kernels, and a processor whose speeds are known."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.networks import classifier
from helpers.speeds import Clock, asked

from jeatcli.acceleration import bench, dispatch, possible
from jeatcli.acceleration.native import amx, kernel
from jeatcli.acceleration.ways import Way


@contextmanager
def _another_kernel() -> Iterator[None]:
    """Forget the kernel, which takes long to build, and have it back afterwards."""
    built = kernel.kernel.cache_info().currsize > 0
    own = kernel.kernel() if built else None
    _forget()
    yield
    _forget()
    if built:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(kernel, "_compiler", lambda: [] if own else None)
            monkeypatch.setattr(kernel, "_load", lambda _: own)
            kernel.kernel()


def _forget() -> None:
    for each in (kernel.kernel, amx.has_tiles):
        each.cache_clear()


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """Let a test build a kernel of its own, in an empty cache."""
    monkeypatch.setenv("JEAT_CACHE_DIR", str(tmp_path))
    with _another_kernel():
        yield


class _WithTiles:
    """The kernel of this processor, and another one that emulates the tiles it lacks."""

    def __init__(self, kernel: ctypes.CDLL, emulated: ctypes.CDLL) -> None:
        self.kernel, self.emulated = kernel, emulated

    def __getattr__(self, name: str) -> Any:
        tiles = name.startswith("amx_") or name == "ask_for_amx"
        return getattr(self.emulated if tiles else self.kernel, name)


@pytest.fixture(scope="session")
def _emulated(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL | None:
    """The kernel's functions for tiles, in plain C++; None without g++ and an x86 processor."""
    if platform.machine() not in ("x86_64", "AMD64") or shutil.which("g++") is None:
        return None
    to = tmp_path_factory.mktemp("emulated") / "tiles.so"
    source = Path(__file__).with_name("emulated.cpp")
    flags = ("-std=gnu++17", "-O1", "-march=native", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi")
    subprocess.run(["g++", *flags, str(source), "-o", str(to)], check=True)
    return ctypes.CDLL(str(to))


@pytest.fixture(scope="module")
def tiles(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let this processor have matrix tiles: its own, or emulated ones where that is possible."""
    own = kernel.kernel()
    emulated = None if amx.has_tiles() else request.getfixturevalue("_emulated")
    if own is None or emulated is None:
        yield
        return
    usual, load = kernel._compiler(), kernel._load
    with _another_kernel(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(
            kernel,
            "_load",
            lambda compiler: _WithTiles(own, emulated) if compiler == usual else load(compiler),
        )
        yield


@pytest.fixture(scope="module")
def needs_tiles(tiles) -> None:
    """Skip the tests where there are neither."""
    if not amx.has_tiles():
        pytest.skip("needs g++ and an x86 processor")


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
        "amx-wgrad": 2.2e-3,
    }
    monkeypatch.setattr(dispatch, "is_built", lambda: True)
    monkeypatch.setattr(
        possible,
        "swapped",
        lambda _, dtype, way, learns: (way.kernel, 1),
    )
    asked.clear()

    def seconds(_: object, way: Way, rounds: int) -> float:
        asked.extend([str(way)] * (rounds or 1))
        if str(way) not in speeds:
            raise RuntimeError("no compiler")
        return speeds[str(way)]

    monkeypatch.setattr(bench.Bench, "seconds", seconds)
    return speeds
