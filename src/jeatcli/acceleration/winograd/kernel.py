"""The kernel in `winograd.cpp`, built by the machine's own compiler and kept in the cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ...errors import JeatError
from ...runtime import files

_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
_SOURCE, _HEADER = (Path(__file__).with_name(f"winograd.{suffix}") for suffix in ("cpp", "h"))


@cache
def kernel() -> ctypes.CDLL | None:
    """Return the library of the kernel, built if need be, or None where it cannot be had."""
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if found is None:
        return None
    try:
        library = ctypes.CDLL(str(_built(shlex.split(found))))
    except (OSError, JeatError, subprocess.CalledProcessError):
        return None
    for name in ("lanes", "panel"):
        getattr(library, name).restype = ctypes.c_long
    for name in ("same", "down", "up", "same_bf16"):
        # Not every processor multiplies in bfloat16.
        if (function := getattr(library, name, None)) is not None:
            function.restype = None
            function.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_long] * 6
    return library


def _built(compiler: list[str]) -> Path:
    """Return the library made of the source for this processor, compiled if it is not there."""
    # The macros that a compiler defines tell its version and what the processor can do.
    probe = [*compiler, "-march=native", "-fopenmp", "-E", "-dM", "-x", "c++", os.devnull]
    macros = subprocess.run(probe, check=True, capture_output=True).stdout
    made_of = (macros, _SOURCE.read_bytes(), _HEADER.read_bytes(), " ".join(_FLAGS).encode())
    digest = hashlib.sha256(b"\0".join(made_of)).hexdigest()
    path = files.cache_dir() / "kernels" / f"winograd-{digest[:16]}.so"
    if not path.exists():
        files.write_atomic(path, lambda to: _compile(compiler, to))
    return path


def _compile(compiler: list[str], to: Path) -> None:
    command = [*compiler, *_FLAGS, str(_SOURCE), "-o", str(to)]
    subprocess.run(command, check=True, capture_output=True)
