"""The kernel is built once, kept in the cache, and loaded only where it is ours."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess

import pytest
import torch
from helpers.convolutions import conv, needs_compiler
from torch import nn

from jeatcli.acceleration.native import kernel
from jeatcli.acceleration.native.convolution import fits
from jeatcli.acceleration.native.direct import direct
from jeatcli.errors import UsageProblem


@pytest.fixture
def quick(monkeypatch, anew, tmp_path_factory) -> None:
    """Let the kernel be one of a few lines, which computes nothing and is built at once."""
    source = tmp_path_factory.mktemp("source") / "kernel.cpp"
    lines = [f'extern "C" void {name}() {{}}' for name in ("same", "down", "up")]
    lines += [f'extern "C" long {name}() {{ return 8; }}' for name in ("lanes", "panel")]
    source.write_text("\n".join(lines))
    monkeypatch.setattr(kernel, "_SOURCE", source)


@pytest.mark.parametrize("compiler", ["/nonexistent/g++", "false"])
def test_without_a_compiler_nothing_is_rewritten(
    monkeypatch, anew, tmp_path, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert not fits(conv(16, 16))
    assert direct(conv(3, 16), torch.float32) is None
    assert direct(nn.Conv2d(16, 16, 1), torch.float32) is None
    assert not list(tmp_path.rglob("*.so"))


@needs_compiler
def test_the_kernel_is_built_once(quick, tmp_path) -> None:
    assert fits(conv(16, 16))
    (built,) = tmp_path.rglob("*.so")
    before = built.stat().st_mtime_ns
    kernel.kernel.cache_clear()
    assert fits(conv(16, 16))
    assert built.stat().st_mtime_ns == before


@needs_compiler
def test_a_broken_file_in_the_cache_is_no_error(monkeypatch, anew) -> None:
    monkeypatch.setattr(kernel, "_compile", lambda compiler, to: to.write_bytes(b"broken"))
    assert not fits(conv(16, 16))


@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "changed", "writable", "link"])
def test_a_library_that_may_not_be_ours_is_not_loaded(quick, tmp_path, damage: str) -> None:
    """A cut library ends the process by SIGBUS, another user's runs whatever is in it."""
    assert fits(conv(16, 16))
    (built,) = tmp_path.rglob("*.so")
    whole = built.read_bytes()
    if damage in ("cut", "changed"):
        built.unlink()  # this process has the file mapped
        built.write_bytes(whole[: len(whole) // 2] if damage == "cut" else whole + b"0")
        built.chmod(0o600)
    elif damage == "writable":
        built.chmod(0o666)
    else:
        elsewhere = tmp_path / "elsewhere.bin"
        built.rename(elsewhere)
        built.symlink_to(elsewhere)
    kernel.kernel.cache_clear()
    assert fits(conv(16, 16))
    (built,) = tmp_path.rglob("*.so")
    assert built.read_bytes() == whole
    assert not built.is_symlink()
    assert built.stat().st_mode & 0o777 == 0o600
    assert built.parent.stat().st_mode & 0o777 == 0o700


@needs_compiler
def test_where_another_user_owns_the_cache_the_kernel_is_built_elsewhere(
    monkeypatch, quick, tmp_path
) -> None:
    loaded: list[str] = []
    load = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda path: loaded.append(path) or load(path))
    assert fits(conv(16, 16))
    (kept,) = tmp_path.rglob("*.so")
    assert loaded == [str(kept)]
    monkeypatch.setattr(os, "getuid", lambda: kept.stat().st_uid + 1)
    kernel.kernel.cache_clear()
    assert fits(conv(16, 16))
    assert not loaded[1].startswith(str(tmp_path))
    assert not os.path.exists(loaded[1])


def test_a_compiler_that_is_no_command_is_an_error(monkeypatch, anew) -> None:
    monkeypatch.setenv("CXX", "'")
    with pytest.raises(UsageProblem, match="environment variable CXX, `'`, is not a command"):
        fits(conv(16, 16))
    # Where there is another way nobody has asked for it.
    assert direct(conv(3, 16), torch.float32) is None


@needs_compiler
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names of x86 processors")
@pytest.mark.parametrize("processor", ["haswell", "skylake-avx512", "cooperlake", "sapphirerapids"])
def test_it_can_be_built_for_processors_that_are_not_at_hand(processor: str) -> None:
    """Each has parts that the others leave out: AVX2, AVX-512, its bfloat16, matrix tiles."""
    flags = [flag for flag in kernel._FLAGS if flag not in ("-march=native", "-O3", "-shared")]
    checked = [f"-march={processor}", "-fsyntax-only", "-Wno-psabi", str(kernel._SOURCE)]
    found = subprocess.run(["g++", *flags, *checked], capture_output=True, text=True, check=False)
    if "bad value" in found.stderr:
        pytest.skip(f"the compiler is older than {processor}")
    assert found.returncode == 0, found.stderr[:2000]


# Prints, for ever larger sizes, how far the memory lies from a line of the cache, and whether what
# was there stays while the size does.
_KEPT = """
#include "kept.h"
#include <cstdio>

int main() {
    Kept<float> kept;
    for (size_t count : {1, 1, 5, 1000, 100000}) {
        float *memory = kept.get(count);
        std::printf("%d %d\\n", int(uintptr_t(memory) % 64), int(memory[0]));
        for (size_t i = 0; i < count; i++) memory[i] = 7;
    }
}
"""


@needs_compiler
def test_memory_that_the_kernel_keeps_begins_at_a_line_of_the_cache(tmp_path) -> None:
    source, program = tmp_path / "kept.cpp", tmp_path / "kept"
    source.write_text(_KEPT)
    headers = kernel._SOURCE.parent
    flags = ["-std=gnu++17", f"-I{headers}", "-o", str(program)]
    subprocess.run(["g++", *flags, str(source)], check=True)
    out = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    assert out[0::2] == ["0"] * 5
    assert out[3] == "7"
