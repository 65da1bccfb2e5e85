"""The kernel in `kernel.cpp`, built by the machine's own compiler and kept in the cache.

A library is code: what lies in the cache is loaded only if no other user can have written it, and
if its name has the digest of its content.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from torch import Tensor

from ...errors import JeatError, UsageProblem
from ...runtime import files, own_files
from ...runtime.digests import checksum
from .after import NOTHING, After, last
from .tape import Call

# Predictive commoning trades a load that a multiplication has for free for several moves.
_FLAGS = (
    "-std=gnu++17",
    "-O3",
    "-fno-predictive-commoning",
    "-march=native",
    "-fopenmp",
    "-shared",
    "-fPIC",
)
_SOURCE = Path(__file__).with_name("kernel.cpp")
# Some have a form in bfloat16.
_CONVOLUTIONS = ("same", "down", "up", "point", "point_down", "point_up", "stem", "stem_back")
_AMX = ("amx_same", "amx_down", "amx_up", "amx_point", "amx_point_down", "amx_point_up")
_WGRAD = ("same_wgrad", "down_wgrad", "amx_same_wgrad", "amx_down_wgrad")
# How many pointers they take, and how many numbers after these.
_FUNCTIONS = {
    **dict.fromkeys((*_CONVOLUTIONS, *_AMX), (4, 5)),
    **dict.fromkeys(_WGRAD, (3, 5)),
    "replay": (2, 2),
    **dict.fromkeys(("finish", "norm", "norm_back", "to_points", "from_points"), (3, 2)),
}


@cache
def kernel() -> ctypes.CDLL | None:
    """Return the library of the kernel, built if need be, or None where it cannot be had.

    Raises:
        UsageProblem: If the environment variable `CXX` is no command.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    try:
        library = _load(compiler)
    except (OSError, JeatError, subprocess.CalledProcessError):
        return None
    if hasattr(library, "ask_for_amx"):
        library.ask_for_amx.restype = ctypes.c_bool
        # Each process has to, one that got a network from another, too.
        library.ask_for_amx()
    for name in ("lanes", "panel"):
        getattr(library, name).restype = ctypes.c_long
    for name, (pointers, longs) in _FUNCTIONS.items():
        # Not every processor multiplies in bfloat16, or has tiles.
        for function in (getattr(library, name + suffix, None) for suffix in ("", "_bf16")):
            if function is not None:
                function.restype = None
                function.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_long] * longs
    return library


def call(name: str, x: Tensor, weights: Tensor, out: Tensor, after: After = NOTHING) -> Tensor:
    """Return `out`, images with their channels last, filled by a convolution of the kernel's.

    x (n, C, H, W) has the type that the function takes, `weights` are as it reads them.
    """
    x, library = last(x), kernel()
    assert library is not None
    (n, inputs, *sides), (_, outputs, *others) = x.shape, out.shape
    height, width = max(sides, others)  # the larger ones, with a stride of 2
    bias = after.bias
    if bias is not None and not bias.is_contiguous():  # it may be a part of other numbers
        after = after._replace(bias=bias.contiguous())
    Call(name, x, weights, out, after, (n, height, width, inputs, outputs)).make(library)
    return out


def wgrad(name: str, x: Tensor, gradient: Tensor, sums: Tensor) -> None:
    """Fill `sums` with the gradient by the weights: at the points (points, C * K), or by tiles.

    Of images x (n, C, H, W), and the gradient (n, K, h, w) by what their convolution is. Tiles give
    the gradient by the weights themselves, (K, C, 3, 3).
    """
    x, gradient = last(x), last(gradient)
    (n, inputs, *sides), outputs = x.shape, gradient.shape[1]
    pointers = x.data_ptr(), gradient.data_ptr(), sums.data_ptr()
    getattr(kernel(), name)(*pointers, n, *sides, inputs, outputs)


def is_built() -> bool:
    """Tell whether the library is in the cache, so that it can be had at once."""
    try:
        compiler = _compiler()
        return compiler is not None and _find(*_place(compiler)) is not None
    except (OSError, JeatError, subprocess.CalledProcessError):
        return False


def _compiler() -> list[str] | None:
    """Return the command of the C++ compiler, or None if there is none."""
    command = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if command is None:
        return None
    try:
        return shlex.split(command)
    except ValueError as problem:
        raise UsageProblem(
            f"the environment variable CXX, `{command}`, is not a command: {problem}",
            "set it to a C++ compiler such as g++, or unset it",
        ) from None


def _place(compiler: list[str]) -> tuple[Path, str]:
    """Return the directory of the library, and its name without the digest of its content."""
    # The macros that a compiler defines tell its version and what the processor can do.
    probe = [*compiler, "-march=native", "-fopenmp", "-E", "-dM", "-x", "c++", os.devnull]
    macros = subprocess.run(probe, check=True, capture_output=True).stdout
    sources = [path.read_bytes() for path in (_SOURCE, *sorted(_SOURCE.parent.glob("*.h")))]
    made_of = (macros, *sources, " ".join(_FLAGS).encode())
    name = "kernel-" + hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]
    return files.cache_dir() / "kernels", name


def _load(compiler: list[str]) -> ctypes.CDLL:
    """Load the library made of the source for this processor, compiled if it is not in the cache.

    Where others can write to the cache, it is compiled anew, in a directory of this process.
    """
    folder, name = _place(compiler)
    private = own_files.make_private(folder)
    if private and (library := _find(folder, name)):
        return ctypes.CDLL(str(library))
    with tempfile.TemporaryDirectory(prefix="jeat-kernel-") as temporary:
        path = Path(temporary) / "kernel.so"
        _compile(compiler, path)
        if private:
            with suppress(JeatError):
                kept = folder / f"{name}-{checksum(path)[:16]}.so"
                files.write_atomic(kept, partial(shutil.copyfile, path))
                kept.chmod(0o600)
                path = kept
        return ctypes.CDLL(str(path))


def _compile(compiler: list[str], to: Path) -> None:
    command = [*compiler, *_FLAGS, str(_SOURCE), "-o", str(to)]
    subprocess.run(command, check=True, capture_output=True)


def _find(folder: Path, name: str) -> Path | None:
    """Return the whole library of that name that this user wrote; remove those cut short."""
    for path in folder.glob(f"{name}-*.so"):
        if not own_files.is_own(path):
            continue
        if checksum(path).startswith(path.stem.rpartition("-")[2]):
            return path
        path.unlink()
    return None
