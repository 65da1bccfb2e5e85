"""What the user says of somebody else's checkpoint, which does not say it of itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.facts import dataset_facts
from ..errors import UsageProblem


@dataclass(frozen=True)
class Foreign:
    """A description of a checkpoint that `jeat train` did not write.

    Args:
        arch: Name of the network.
        dataset: The data set that it was trained on.
        mean, std: Its normalisation, per channel or one number for all, of pixels in [0, 1];
            None is what the file holds, else the data set's own statistics.
        norm_layer: `batch`, `group` or `none`.
        activation: `relu` or `silu`.
        entry: Where in the file the weights are; None is the customary place.

    Raises:
        UsageProblem: If only one of mean and std is given, or they are for another pixel scale.
    """

    arch: str | None = None
    dataset: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    norm_layer: str = "batch"
    activation: str = "relu"
    entry: str | None = None

    def __post_init__(self) -> None:
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
    """Refuse a normalisation that pixels in [0, 1] cannot have.

    Raises:
        UsageProblem: Naming the number.
    """
    for value in (*mean, *std):
        if not (math.isfinite(value) and abs(value) <= 1):
            raise UsageProblem(
                f"a normalisation with {value:g} is not of pixels in [0, 1]",
                "divide the mean and the standard deviation of pixels 0..255 by 255",
            )
    if not min(std) > 0:
        raise UsageProblem(f"a standard deviation must be above 0, not {min(std):g}")


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return one value for each channel; a single one is for all.

    Raises:
        UsageProblem: If there are as many as neither.
    """
    if len(values) not in (1, channels):
        raise UsageProblem(
            f"the images have {channels} channels, but a normalisation has {len(values)} values",
            "give one number for each channel, or one for all",
        )
    return tuple(values) * (channels if len(values) == 1 else 1)
