"""The networks: a row of the table each, all behind the same `Classifier`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...catalogue import Catalogue, Entry

if TYPE_CHECKING:
    from .classifier import Network
    from .layers import Shape

NORM_LAYERS = ("batch", "group", "none")
ACTIVATIONS = ("relu", "silu")
ARCHITECTURES = Catalogue(
    "architecture",
    {
        "cifar-resnet-N": Entry(
            "The small residual network for CIFAR, of depth N = 6n + 2 (He et al. 2016a)",
            "jeatcli.core.models.cifar_resnet",
        ),
        "resnet-18": Entry(
            "Pre-activation residual network with a CIFAR stem (He et al. 2016b)",
            "jeatcli.core.models.preact_resnet",
        ),
        "resnet-18-raw": Entry(
            "`resnet-18` whose projections take a block's input before its activation",
            "jeatcli.core.models.preact_resnet_raw",
        ),
        "resnet-18-v1": Entry(
            "The original residual network with a CIFAR stem (He et al. 2016a)",
            "jeatcli.core.models.resnet",
        ),
        "resnet-18-wong": Entry(
            "`resnet-18-raw` without the last normalisation and activation",
            "jeatcli.core.models.preact_resnet_wong",
        ),
        "small": Entry(
            "A few convolutions and a hidden layer, for CPUs",
            "jeatcli.core.models.small",
        ),
        "wrn-D-W": Entry(
            "Wide residual network of depth D = 6n + 4 and width W (Zagoruyko and Komodakis 2016)",
            "jeatcli.core.models.wrn",
        ),
    },
)


def build(arch: str, shape: Shape) -> Network:
    """Build the network called `arch`.

    Raises:
        UsageProblem: If there is none of that name, or it cannot have that depth.
    """
    entry, numbers = ARCHITECTURES.match(arch)
    make: Callable[..., Network] = entry.load().make
    return make(shape, *numbers)
