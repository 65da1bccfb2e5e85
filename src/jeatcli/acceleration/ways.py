"""The ways of computing a network, by name, without torch."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import UsageProblem
from ..settings import setting


class Kernel(NamedTuple):
    """What computes the convolutions on a CPU; the library does the others."""

    winograd: int | None = None  # the least channels, in and out, of those by Winograd's algorithm
    amx: bool = False  # whether the processor's matrix tiles compute those that they can
    wgrad: bool = False  # and, in training, the gradients by their weights
    # Whether the library's are in one pass with the sums and ReLUs after them, and, in training,
    # normalisations with what follows them.
    fused: bool = True


KERNELS = {
    "library": Kernel(fused=False),
    "fused": Kernel(),
    "winograd": Kernel(0),
    "winograd-32": Kernel(32),
    "winograd-64": Kernel(64),
    "amx": Kernel(amx=True),
    "amx-wgrad": Kernel(amx=True, wgrad=True),
}


def compilable(kernel: str) -> str:
    """Return the one that goes with a graph that torch compiles, which fuses by itself."""
    return kernel if KERNELS[kernel].winograd is not None else "library"


def instead_of(kernel: str) -> tuple[str, ...]:
    """Return those that may have to take its place, the nearest first."""
    if kernel in ("auto", "library"):
        return ()
    tiles = ("amx",) if kernel == "amx-wgrad" else ()
    return (*tiles, *(("fused",) if kernel != "fused" else ()), "library")


def in_float32(kernel: str) -> str:
    """Return the one that takes its place in float32, which matrix tiles do not multiply."""
    return "fused" if KERNELS[kernel].amx else kernel


class Way(NamedTuple):
    """A way of computing a network: the same function, to rounding."""

    kernel: str = "library"  # of its convolutions on a CPU, a key of `KERNELS`
    compiled: bool = False  # whether torch compiles its graph

    def __str__(self) -> str:
        return f"{self.kernel}, compiled" if self.compiled else self.kernel


LIBRARY = Way()


class Wish(NamedTuple):
    """What the user says of the way: `auto` and None leave it to a measurement."""

    kernel: str = "auto"
    compiled: bool | None = None

    @property
    def unmeasured(self) -> Way:
        """The way where there is too little to compute for a measurement to pay."""
        kernel = self.kernel
        if kernel == "auto":
            kernel = "winograd" if self.compiled else LIBRARY.kernel
        return Way(kernel, bool(self.compiled))

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            UsageProblem: If torch is to compile a graph whose convolutions are the kernel's alone.
        """
        if self.compiled and self.kernel in KERNELS and KERNELS[self.kernel].amx:
            raise UsageProblem(
                f"`--kernel {self.kernel}` and `--compile` do not go together: torch compiles no "
                "graph with these convolutions",
                "leave one of the two out",
            )


NEVER_MEASURED = Wish(LIBRARY.kernel, LIBRARY.compiled)


class Work(NamedTuple):
    """What is to be computed in that way."""

    shape: tuple[int, ...]  # of an image, (C, H, W)
    batch: int  # images at a time
    passes: float  # forward and backward passes of an image with frozen weights, in all
    updates: float = 0  # those that give the weights their gradients


def compile_setting() -> Any:
    """Declare whether torch compiles the network, which every command calls `--compile`."""
    return setting(
        None,
        "Compile the network with torch, which may take minutes at the start",
        section="Machine",
        flags=("--compile/--no-compile",),
        shown="where it pays",
    )


def kernel_setting() -> Any:
    """Declare what computes the convolutions, which every command calls `--kernel`."""
    return setting(
        "auto",
        "Convolutions on a CPU: library, fused, winograd, winograd-32 (those of 32 channels and "
        "more), winograd-64, amx (on processors with AMX, in bfloat16) or amx-wgrad (the gradients "
        "by the weights, too); auto measures",
        section="Machine",
        choices=("auto", *KERNELS),
        metavar="KERNEL",
    )
