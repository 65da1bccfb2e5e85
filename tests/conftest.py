"""What every test stands on: an environment of its own, and the real data sets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.cli import JEAT, STANDARD, done, jeat
from helpers.order import longest_first
from helpers.runs import Trained, load_run

from jeatcli.checkpoints.model import Model


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return the processes of `-n auto`: one a core, but eight at most, which take 2 GB each."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return min(8, os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of one of several processes; they all order them alike."""
    if hasattr(config, "workerinput"):
        longest_first(items)


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """Compute in two threads, or in this process's share of them where several test at once."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "2")) // processes))


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep the user's runs, caches, settings, terminal and proxies out of the tests."""
    for name in [name for name in os.environ if name.startswith("JEAT_")]:
        monkeypatch.delenv(name)
    for kind in ("data", "cache", "runs"):
        monkeypatch.setenv(f"JEAT_{kind.upper()}_DIR", str(folder / f"jeat-{kind}"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train two runs, the second by the installed executable; do not write."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, folder)
        monkeypatch.setenv("JEAT_DEVICE", "cpu")
        done(*STANDARD, "-o", "standard")
        return Trained(folder / "jeat-runs", jeat(*JEAT))


@pytest.fixture
def home(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the runs directory of this test, with copies of the two runs; work on the CPU."""
    monkeypatch.setenv("JEAT_DEVICE", "cpu")
    return Path(shutil.copytree(trained.runs, tmp_path / "jeat-runs"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data beside the repository, which CI must have."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{path} is missing")
        pytest.skip(f"{path} is missing")
    return path


@pytest.fixture(scope="session")
def cifar10_root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with all of CIFAR-10 as its authors published it; do not write."""
    root = tmp_path_factory.mktemp("cifar10")
    command = [sys.executable, str(shared / "unpack_cifar10.py"), str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return root


@pytest.fixture(scope="session")
def mnist_root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with the four MNIST files as published; do not write."""
    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (shared / "mnist").glob("*.gz"):
        shutil.copyfile(file, raw / file.name)
    return root


@pytest.fixture
def judge() -> Model:
    """Return an untrained run whose features judge images."""
    return load_run("judge", seed=7)


@pytest.fixture
def artist() -> Model:
    """Return an untrained run that draws images."""
    return load_run("artist", method="jeat")
