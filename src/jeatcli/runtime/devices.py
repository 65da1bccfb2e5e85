"""Which processor computes, and how precisely."""

import platform
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from ..errors import JeatError, UsageProblem, unknown
from . import launch
from .progress import Reporter
from .words import counted

# Seconds of this thread, which other processes do not advance; Windows counts them in 16 ms.
thread_clock = time.perf_counter if sys.platform == "win32" else time.thread_time


def pick(name: str | torch.device = "auto") -> torch.device:
    """Return the device called `cpu`, `cuda`, `cuda:N`, `mps`, or `auto`: the best there is."""
    name = str(name)
    if launch.several() and name.startswith("cuda:"):
        raise UsageProblem(
            f"`{name}` cannot be the device of several processes",
            "leave `--device` out: each process takes its own device",
        )
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return _exact(_own_cuda())
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise unknown("device", name, ["auto", "cpu", "cuda", "cuda:N", "mps"])
    count = torch.get_device_module(kind).device_count()
    if int(index or 0) >= count:
        have = f"{kind} devices here: {count}" if count else f"there is no {kind} device here"
        raise JeatError(f"device `{name}` does not exist; {have}", "use `--device auto` or `cpu`")
    return _exact(torch.device(name))


def _own_cuda() -> torch.device:
    """Return the CUDA device of this process: under `torchrun` each has its own."""
    if not launch.several():
        return torch.device("cuda")
    number, count = launch.local_number(), torch.cuda.device_count()
    if launch.local_size() > count:  # in all of them, of which the first one says it
        raise UsageProblem(
            f"there are more processes on this machine than CUDA devices ({count})",
            f"use `torchrun --nproc-per-node {count}`, or `--device cpu`",
        )
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


def _exact(device: torch.device) -> torch.device:
    """Compute exactly on CUDA: without TF32, which rounds products to ten bits.

    Convolutions add in a fixed order and are not chosen by timing, so that a resumed run equals
    an uninterrupted one.
    """
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device


def images_at_once(shape: Sequence[int], device: torch.device, most: int = 256) -> int:
    """Return a default batch size for images (..., H, W): `most` up to 32x32, fewer above.

    The memory of a network's activations grows with the area of an image, so they hold as many
    pixels as `most` images of 32x32; there is one at least. On a CPU they hold those of 64, but
    eight images where they may.
    """
    *_, height, width = shape
    area = height * width
    size = most * 32 * 32 // area
    if device.type == "cpu":
        # Larger activations leave the caches, and memory of their size is returned to the system
        # and asked for again at each layer, which takes up to half of the time.
        size = min(size, max(8, 64 * 32 * 32 // area))
    return max(1, min(most, size))


def batches_of(size: int, shape: Sequence[int]) -> str:
    """Say that there are fewer images (C, H, W) at once than usual."""
    dimensions = "x".join(map(str, shape))
    return f"{counted(size, 'image')} of {dimensions} at once; `--batch-size` sets another number"


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return what the networks compute in: bfloat16, or None for float32.

    `auto` takes bfloat16 where the processor has instructions for it. A CPU is measured, because
    libraries emulate bfloat16 at a third of the speed.
    """
    if precision == "fp32":
        return None
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Instructions for bfloat16 win by a factor of two and more.
        able = device.type == "cpu" and (precision == "bf16" or bf16_gain() > 4 / 3)
    if able:
        return torch.bfloat16
    if precision == "bf16":
        raise UsageProblem(f"bf16 is not available on `{device}`", "use `--precision fp32`")
    return None


def tell_if_emulated(precision: str, device: torch.device, reporter: Reporter) -> None:
    """Say that a CPU without instructions for bfloat16 will be slow, where it is asked for."""
    if precision == "bf16" and device.type == "cpu" and (gain := bf16_gain()) < 1:
        reporter.say(
            "this processor has no instructions for bf16 and emulates it: fp32 multiplies "
            f"{1 / gain:.0f} times as fast (`--precision fp32`)"
        )


@cache
def bf16_gain(size: int = 512, rounds: int = 5) -> float:
    """Return how many times as fast a CPU multiplies matrices in bfloat16 as in float32.

    On one thread and by its own clock, so that a busy machine gives the same answer as an idle one.
    A process measures once.
    """
    operands = [torch.ones(size, size, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [[_seconds(operand) for operand in operands] for _ in range(rounds)]
    finally:
        torch.set_num_threads(threads)
    single, half = (min(row[k] for row in times) for k in (0, 1))
    return single / max(half, 1e-9)


def _seconds(operand: torch.Tensor) -> float:
    began = thread_clock()
    operand @ operand
    return thread_clock() - began


def precision_name(dtype: torch.dtype | None) -> str:
    """Return `bf16` or `fp32`."""
    return "bf16" if dtype is torch.bfloat16 else "fp32"


def processor() -> str:
    """Return the model of the CPU, which Linux says in a file of its own."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
