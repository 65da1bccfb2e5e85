"""What the user says of a third-party checkpoint, which does not describe itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ..core.models import ACTIVATIONS, NORM_LAYERS
from ..data.facts import dataset_facts
from ..errors import UsageProblem
from ..runtime.words import counted
from ..settings import Settings, setting

_other = partial(
    setting, section="Third-party checkpoints (RUN is a state dict that jeat did not write)"
)
_NORMALISATION = "the file's, else the data set's"


@dataclass(frozen=True)
class Foreign(Settings):
    """A description of a checkpoint that `jeat train` did not write.

    `mean` and `std` are one number per channel, or one for all, for pixels in [0, 1].

    Raises:
        UsageProblem: If only one of mean and std is given, or they are for another pixel scale.

    Examples:
        >>> import torch
        >>> from jeatcli import Foreign, load
        >>> from jeatcli.checkpoints.networks import make_network, Shape
        >>> theirs = make_network("cifar-resnet-8", Shape((3, 32, 32), 10, "batch", "relu"))
        >>> torch.save({"state_dict": theirs.state_dict()}, "theirs.pt")
        >>> model = load("theirs.pt", foreign=Foreign("cifar-resnet-8", "cifar10", (0,), (1,)))
        >>> model.name
        'theirs'
    """

    arch: str | None = _other(
        None,
        "Its network: of `jeat train --help`, robustbench:ID, or your own FILE.py:FUNCTION",
        kind="network",
        metavar="ARCH",
    )
    dataset: str | None = _other(None, "What it was trained on", kind="dataset", metavar="DATASET")
    mean: tuple[float, ...] | None = _other(
        None,
        "Its normalisation, by channel; --mean 0 --std 1 for unnormalised pixels",
        metavar="R,G,B",
        shown=_NORMALISATION,
    )
    std: tuple[float, ...] | None = _other(
        None, "Its standard deviation, by channel", metavar="R,G,B", shown=_NORMALISATION
    )
    norm_layer: str = _other(
        "batch", "Its normalisation layers", choices=NORM_LAYERS, metavar="LAYER"
    )
    activation: str = _other("relu", "Its nonlinearity", choices=ACTIVATIONS)
    entry: str | None = _other(
        None,
        "Where in the file the weights are, such as ema or last",
        metavar="NAME",
        shown="state_dict, model, ...",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is not None:
            dataset_facts(self.dataset)
        if (self.mean is None) != (self.std is None):
            lacking = "--std" if self.std is None else "--mean"
            raise UsageProblem(
                "a normalisation is a mean and a standard deviation", f"give `{lacking}` too"
            )
        if self.mean is not None and self.std is not None:
            check_normalisation(self.mean, self.std)


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse a normalisation that pixels in [0, 1] cannot have."""
    for value in (*mean, *std):
        if not (math.isfinite(value) and abs(value) <= 1):
            raise UsageProblem(
                f"a normalisation with {value:g} is not of pixels in [0, 1]",
                "divide the mean and the standard deviation of pixels 0..255 by 255",
            )
    # Below that it is zero in float32.
    if (least := min(std, default=1.0)) < 1e-30:
        raise UsageProblem(f"a standard deviation must be above 0, not {least:g}")


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return one value for each channel; one alone is for all. Refuse any other number of them."""
    if len(values) not in (1, channels):
        raise UsageProblem(
            f"the images have {counted(channels, 'channel')}, but a normalisation has "
            f"{counted(len(values), 'value')}",
            "give one number for each channel, or one for all",
        )
    return tuple(values) * (channels if len(values) == 1 else 1)
