"""What is recorded of a kernel that cannot be had: what computes instead, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.cli import STANDARD, jeat, parsed
from helpers.convolutions import fuses_in, needs_compiler
from helpers.networks import classifier
from helpers.speeds import MUCH, chosen

from jeatcli.acceleration import fused, possible
from jeatcli.acceleration.native import amx, convolution, direct, finish, norm
from jeatcli.acceleration.twins import accelerate
from jeatcli.acceleration.ways import KERNELS, LIBRARY, Way, Wish, instead_of
from jeatcli.core.models.classifier import Classifier

HALF = torch.bfloat16
# What float32 falls back to.
FUSED = "fused" if fuses_in(torch.float32) else "library"


def without_kernel(monkeypatch: pytest.MonkeyPatch, kernel: object = None) -> None:
    """Let there be no C++ compiler, or a processor for which the kernel has less."""
    for module in (amx, convolution, direct, finish, norm):
        monkeypatch.setattr(module, "kernel", lambda: kernel)
    monkeypatch.setattr(possible, "library_of_kernel", lambda: kernel)


def swaps(model: Classifier, dtype: torch.dtype | None, way: Way) -> list[str]:
    """Return what computes the convolutions of the twin of a network, one by one."""
    return [type(swap).__name__ for swap in getattr(accelerate(model, dtype, way).net, "swaps", [])]


def test_without_a_compiler_it_is_the_library_that_is_named(
    model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_kernel(monkeypatch)
    for name in ("winograd", "winograd-64"):
        assert chosen(model, MUCH, Wish(name, False)) == (
            Way(FUSED),
            f"convolutions: {FUSED} (not measured)",
        )
        assert chosen(model, MUCH, Wish(name, True))[0] == Way("library", True)
    assert possible.why_not(model, None, Way("winograd"), False).startswith("there is no C++")
    # Unless it was asked for.
    assert chosen(model, MUCH._replace(passes=10), Wish(compiled=True)) == (
        Way("library", True),
        "",
    )


@pytest.mark.parametrize(
    ("name", "dtype", "why"),
    [
        ("amx", None, "for bfloat16, and this is float32"),
        ("amx-wgrad", None, "for bfloat16, and this is float32"),
        ("amx", HALF, "no matrix tiles"),
        ("winograd", HALF, "no instructions for bfloat16"),
        ("fused", HALF, "no instructions for bfloat16"),
    ],
)
def test_it_is_said_why_another_computes(
    model: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    dtype: torch.dtype | None,
    why: str,
) -> None:
    class Older:
        """The kernel on a processor without bfloat16."""

        lanes = same = down = point = stem = staticmethod(lambda *_: 8)

    without_kernel(monkeypatch, Older())
    monkeypatch.setattr(fused, "fuses_in", lambda dtype: dtype is not HALF)
    monkeypatch.setattr(possible, "fuses_in", fused.fuses_in)
    monkeypatch.setattr(amx, "has_tiles", lambda: False)
    there = "library" if dtype is HALF else "fused"
    assert possible.computed(model, dtype, Way(name)) == Way(there)
    assert why in possible.why_not(model, dtype, Way(name), False)


def test_kernels_are_for_cpus_and_for_networks_that_can_be_rewritten(model: Classifier) -> None:
    elsewhere = classifier("cifar-resnet-8", "batch").eval().to("meta")
    for name in KERNELS:
        assert chosen(elsewhere, MUCH, Wish(name))[0] == LIBRARY
        assert chosen(elsewhere, MUCH, Wish(name, True))[0] == Way("library", True)
    assert "CPUs, not for `meta`" in possible.why_not(elsewhere, None, Way("winograd"), False)
    model.net.foldable = False
    assert chosen(model, MUCH, Wish("fused", False))[0] == LIBRARY
    assert "foldable" in possible.why_not(model, None, Way("fused"), False)


@needs_compiler
@pytest.mark.parametrize("dtype", [None, HALF])
@pytest.mark.parametrize("arch", ["cifar-resnet-8", "small", "resnet-18-v1"])
def test_what_is_named_is_what_computes(arch: str, dtype: torch.dtype | None) -> None:
    model = classifier(arch, "none" if arch == "small" else "batch").eval()
    for way in map(Way, KERNELS):
        named = possible.computed(model, dtype, way)
        assert swaps(model, dtype, named) == swaps(model, dtype, way)
        assert named == way or named.kernel in instead_of(way.kernel)
        kinds = {*swaps(model, dtype, named)}
        assert ("WinogradConv" in kinds or "StemConv" in kinds) or "winograd" not in named.kernel
        assert ("AmxConv" in kinds) == named.kernel.startswith("amx")
        assert bool(kinds) == (named != LIBRARY)


def test_a_record_names_what_computed_and_one_line_says_why(home: Path, tmp_path: Path) -> None:
    asked, nowhere = ("--kernel", "winograd", "--no-compile"), {"CXX": "/nonexistent/g++"}
    line = (
        "`--kernel winograd` is not available here (there is no C++ compiler that builds our "
        f"kernel); `{FUSED}` computes the convolutions\n"
    )
    attack = jeat("attack", "-n", 20, "--steps", 2, *asked, "--json", **nowhere)
    assert attack.stderr.count(line) == 1
    assert parsed(attack)["kernel"] == FUSED
    run, settings = tmp_path / "run", (*STANDARD, "--epochs", 2, *asked)
    assert jeat(*settings, "-o", run, **nowhere).stderr.count(line) == 1
    assert f'kernel = "{FUSED}"' in (run / "config.toml").read_text()
    # The same command is the same run, whatever is possible by now.
    assert "is done" in jeat(*settings, "-o", run).stderr
    assert "not available" not in jeat(*settings, "-o", run).stderr
