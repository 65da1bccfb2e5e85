"""The ways of computing a network, by name, without torch."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..settings import setting

# Least channels, in and out, of a convolution that is Winograd's; None where all are the library's,
# with the sums and ReLUs after them in the same pass where they are `fused`.
KERNELS: dict[str, int | None] = {
    "library": None,
    "fused": None,
    "winograd": 0,
    "winograd-32": 32,
    "winograd-64": 64,
}


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
        "more) or winograd-64; auto measures",
        section="Machine",
        choices=("auto", *KERNELS),
        metavar="KERNEL",
    )
