"""What only a CUDA device can show: the same promises there as on the CPU."""

from __future__ import annotations

import gc
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers.cli import STANDARD, done, here, one, refused, stopped_after
from helpers.compare_runs import same
from helpers.training import config

from jeatcli.acceleration.ways import Way
from jeatcli.checkpoints import checkpoint
from jeatcli.errors import Interrupted
from jeatcli.robustness import batch_size
from jeatcli.robustness.attacks.surrogate import Surrogate
from jeatcli.runtime import devices
from jeatcli.training import setup
from jeatcli.training.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
METHODS = ("standard", "noise", "at", "prejeat", "jem", "jeat", "dat")
PRECISIONS = ("fp32", "bf16")
# What torch's compiler itself says when it is loaded.
COMPILES = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture
def cuda() -> torch.device:
    """Return the device, as a command has it."""
    return devices.pick("cuda")


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let every wait for the device be an error."""
    with warnings.catch_warnings():
        # That this mode is a prototype.
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_does_not_wait_for_the_device(
    method: str, precision: str, cuda: torch.device, tmp_path: Path
) -> None:
    settings = config(method, arch="cifar-resnet-20", precision=precision)
    trainer = setup.build(settings, tmp_path, cuda).trainer
    batches = trainer.loader.epoch(0)
    trainer.update(*next(batches))
    x, y = next(batches)
    with no_waiting():
        for _ in range(2):
            trainer.update(x, y)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("arch", ["small", "cifar-resnet-20"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    arch: str, precision: str, cuda: torch.device, tmp_path: Path
) -> None:
    settings = config("jeat", arch=arch, precision=precision, val_split=20, eval_every=1)
    train(settings, tmp_path / "whole", device="cuda")
    with stopped_after(5), pytest.raises((Interrupted, KeyboardInterrupt)):
        train(settings, tmp_path / "parts", device="cuda")
    train(settings, tmp_path / "parts", device="cuda")
    same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("arch", ["small", "cifar-resnet-20", "resnet-18", "wrn-16-2"])
def test_float32_is_float32(arch: str, cuda: torch.device, tmp_path: Path) -> None:
    """The logits and gradients of images are those of the CPU; TF32 would miss by far more."""
    model = setup.build(config(arch=arch), tmp_path, torch.device("cpu")).trainer.average.model
    x = torch.rand(16, 1, 8, 8)
    found = []
    for device in (torch.device("cpu"), cuda):
        there = x.to(device).requires_grad_(True)
        logits = model.to(device)(there)
        (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), there)
        found.append((logits.detach().cpu(), gradient.cpu()))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() < 1e-5 * ours.abs().max()


@COMPILES
def test_a_compiled_search_has_the_same_logits(cuda: torch.device, tmp_path: Path) -> None:
    model = setup.build(config(arch="cifar-resnet-20"), tmp_path, cuda).trainer.average.model
    x = torch.rand(70, 1, 8, 8, device=cuda)
    with torch.no_grad():
        plain = model(x)
        for dtype, within in ((None, 1e-4), (torch.bfloat16, 0.05)):
            found = Surrogate(model, dtype, way=Way(compiled=True))(x)
            assert (found - plain).abs().max() < within * plain.abs().max()


@COMPILES
def test_a_compiled_run_learns_the_same(cuda: torch.device, tmp_path: Path) -> None:
    for compile in (False, True):
        settings = config("at", arch="cifar-resnet-20", precision="fp32", compile=compile)
        train(settings, tmp_path / str(compile), device="cuda")
    nets = [checkpoint.load(tmp_path / str(each)).classifier for each in (False, True)]
    plain, compiled = (torch.cat([w.flatten() for w in net.parameters()]) for net in nets)
    # Signs of small gradients differ by rounding. A rate a tenth lower is 9 % away, a seed 76 %.
    assert (plain - compiled).norm() < 0.04 * plain.norm()


def test_a_batch_that_does_not_fit_is_told_with_one_that_does(
    cuda: torch.device, tmp_path: Path
) -> None:
    """The memory is really exhausted, and the size that is named really fits."""
    arch = ("--arch", "resnet-18", "--limit", "1024", "--device", "cuda", "--force")
    command = (*STANDARD, *arch, "-o", str(tmp_path / "run"), "--batch-size")
    needed = []
    for size in (16, 1024):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        done(*command, size)
        needed.append(torch.cuda.max_memory_reserved())
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(sum(needed) / 2 / total)
    try:
        said = here(*command, 1024)
        refused(said, 1, "out of memory with batches of 1024 images", "`--batch-size ")
        found = re.search(r"`--batch-size (\d+)`", " ".join(said.stderr.split()))
        assert found is not None
        assert 16 < int(found[1]) < 1024
        # The result has the error, whose frames hold the network that did not fit.
        del said
        gc.collect()
        done(*command, found[1])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_batch_size_of_an_attack_comes_from_memory(cuda: torch.device, tmp_path: Path) -> None:
    model = setup.build(config(arch="wrn-16-2"), tmp_path, cuda).trainer.average.model
    free = batch_size.fitting(model, (1, 8, 8), cuda)
    held = torch.empty(int(torch.cuda.mem_get_info()[0] * 0.97), dtype=torch.uint8, device=cuda)
    scarce = batch_size.fitting(model, (1, 32, 32), cuda)
    assert free == 4096
    assert 16 <= scarce < free
    del held


def test_all_verbs(cuda: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what they say names the device and the precision."""
    monkeypatch.chdir(tmp_path)
    run = one("train", "--method", "jeat", "--dataset", "digits", "--epochs", "5", "-o", "run")
    assert (run["device"], run["precision"]) == ("cuda", "bf16")
    found = one("attack", "run", "--attack", "autoattack", "-n", "50")
    exact = one("attack", "run", "--attack", "autoattack", "-n", "50", "--exact")
    assert abs(found["robust"] - exact["robust"]) < 0.05
    for name in ("left.npz", "right.npz"):
        done("sample", "run", "-n", "100", "--steps", "10", "-o", name)
    assert Path("left.npz").read_bytes() == Path("right.npz").read_bytes()
    assert one("score", "run", "-n", "100", "--features", "run")["fid"] > 0
    done("landscape", "run", "-o", "energy.png")
    assert Path("energy.png").stat().st_size > 10_000


def test_the_profile_tells_the_time_on_the_device(cuda: torch.device, tmp_path: Path) -> None:
    said = here(*STANDARD, "-o", str(tmp_path / "run"), "--profile", "--device", "cuda")
    assert said.exit_code == 0, said.stderr
    rows = dict(re.findall(r"(\w+) +(\d+\.\d)%", said.stderr))
    assert float(rows["backward"]) > 20
    assert sum(float(rows[part]) for part in ("loss", "backward", "optimizer", "average")) < 101
    trace = json.loads((tmp_path / "run" / "profile.json").read_text())
    assert any(event.get("cat") == "kernel" for event in trace["traceEvents"])
