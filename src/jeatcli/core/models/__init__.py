"""The table of networks, and `build`; each is behind the same `Classifier`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...catalogue import Catalogue, Entry, check_call, load
from ...errors import JeatError

if TYPE_CHECKING:
    from .classifier import Network
    from .layers import Shape

NORM_LAYERS = ("batch", "group", "none")
ACTIVATIONS = ("relu", "silu")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture(Entry):
    """A row of the table of networks."""

    # Where the function is that reads the numbers of the name off the shapes of a state dict, or
    # finds that it is of another network (None); "" where the name has no number.
    reader: str = ""
    rare: bool = False  # whether others of the same state dict are likelier

    def numbers(self, shapes: Shapes) -> tuple[int, ...] | None:
        """Return the numbers in the name of a network with that state dict; None if it has none."""
        numbers: tuple[int, ...] | None = load(self.reader)(shapes) if self.reader else ()
        return numbers


def _row(summary: str, target: str, reader: str = "", rare: bool = False) -> Architecture:
    module, _, _ = target.partition(":")
    place = f"{__name__}.{target}"
    return Architecture(summary, place, f"{__name__}.{module}:{reader}" if reader else "", rare)


ARCHITECTURES: Catalogue[Architecture] = Catalogue(
    "architecture",
    {
        "cifar-resnet-N": _row(
            "The small residual network for CIFAR, of depth N = 6n + 2 (He et al. 2016a)",
            "resnet:make_cifar_resnet",
            "read_depth",
        ),
        "cifar-resnet-b-N": _row(
            "`cifar-resnet-N` with projections as shortcuts (option B)",
            "resnet:make_cifar_resnet_b",
            "read_depth",
        ),
        "dm-resnet-18": _row(
            "Pre-activation residual network from DeepMind's code (Gowal et al. 2020)",
            "deepmind:DeepMindPreActResNet",
        ),
        "dm-wrn-D-W": _row(
            "Wide residual network from DeepMind's code (Gowal et al. 2020)",
            "deepmind:make_dm_wrn",
            "read_depth_and_width",
        ),
        "jem-wrn-D-W": _row(
            "Wide residual network from JEM's code (Grathwohl et al. 2020)",
            "jem:make_jem_wrn",
            "read_depth_and_width",
        ),
        "mma-wrn-D-W": _row(
            "`wrn-D-W` that standardises each image by itself (Ding et al. 2020)",
            "wrn:make_mma_wrn",
            "read_depth_and_width",
            rare=True,
        ),
        "resnet-18": _row(
            "Pre-activation residual network with a CIFAR stem (He et al. 2016b)",
            "preact_resnet:PreActResNet",
        ),
        "resnet-18-kuangliu": _row(
            "`resnet-18` without the last normalisation and activation",
            "preact_resnet:make_resnet18_kuangliu",
        ),
        "resnet-18-raw": _row(
            "`resnet-18` whose projections take a block's input before its activation",
            "preact_resnet:make_resnet18_raw",
        ),
        "resnet-18-v1": _row(
            "The original residual network with a CIFAR stem (He et al. 2016a)",
            "resnet:make_resnet18_v1",
        ),
        "resnet-18-wong": _row(
            "`resnet-18-raw` without the last normalisation and activation",
            "preact_resnet:make_resnet18_wong",
        ),
        "resnet-18-v1-pool": _row(
            "`resnet-18-v1` with a max-pool after its stem", "resnet:make_resnet18_v1_pool"
        ),
        "resnet-34-v1": _row("`resnet-18-v1` with 34 layers", "resnet:make_resnet34_v1"),
        "resnet-34-v1-pool": _row(
            "`resnet-34-v1` with a max-pool after its stem", "resnet:make_resnet34_v1_pool"
        ),
        "resnet-50-v1": _row(
            "`resnet-18-v1` with 50 layers and bottlenecks", "resnet:make_resnet50_v1"
        ),
        "resnet-50-v1-pool": _row(
            "`resnet-50-v1` with a max-pool after its stem", "resnet:make_resnet50_v1_pool"
        ),
        "small": _row("A few convolutions and a hidden layer, for CPUs", "small:make_small"),
        "wrn-D-W": _row(
            "Wide residual network of depth D = 6n + 4 and width W (Zagoruyko and Komodakis 2016)",
            "wrn:make_wrn",
            "read_depth_and_width",
        ),
    },
)


def build(arch: str, shape: Shape) -> Network:
    """Build the network called `arch`.

    Raises:
        UsageProblem: If there is none of that name, or it cannot have that depth.
        JeatError: If its code, which may be the user's own, makes something else.
    """
    from .classifier import Network  # takes torch, which the table does not need

    entry, numbers = ARCHITECTURES.match(arch)
    make: Callable[..., Network] = entry.load()
    check_call(make, f"`{entry.target}` of the network `{arch}`", shape, *numbers)
    made = make(shape, *numbers)
    if not isinstance(made, Network):
        raise JeatError(
            f"`{entry.target}` of the network `{arch}` makes {type(made).__name__}, no `Network`",
            "inherit `jeatcli.core.models.classifier.Network`, with `features` and `head`",
        )
    return made
