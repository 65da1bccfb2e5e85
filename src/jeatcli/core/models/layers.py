"""Input and output of a network, and its choice of layers."""

from dataclasses import dataclass

from torch import Tensor, nn

from ...errors import UsageProblem, unknown
from . import ACTIVATIONS, NORM_LAYERS


@dataclass(frozen=True)
class Shape:
    """The input and output of a network, and its choice of layers."""

    image: tuple[int, int, int]  # channels, height and width
    classes: int  # the number of logits
    norm_layer: str = "batch"  # `batch`, `group` (Wu and He 2018) or `none`
    activation: str = "relu"  # or `silu`

    def __post_init__(self) -> None:
        if self.norm_layer not in NORM_LAYERS:
            raise unknown("norm layer", self.norm_layer, NORM_LAYERS)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)

    def norm(self, channels: int) -> nn.Module:
        """Return the normalisation layer for that many channels."""
        if self.norm_layer == "batch":
            return nn.BatchNorm2d(channels)
        if self.norm_layer == "group":
            groups = next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)
            return nn.GroupNorm(groups, channels)
        return nn.Identity()

    def act(self) -> nn.Module:
        """Return the activation layer."""
        return nn.SiLU() if self.activation == "silu" else nn.ReLU()


def check_range(arch: str, what: str, number: int, least: int, most: int) -> None:
    """Refuse an architecture whose `what` is out of range.

    Raises:
        UsageProblem: Naming both.
    """
    if not least <= number <= most:
        limits = f"{what} must be at least {least} and at most {most}"
        raise UsageProblem(f"`{arch}` has {what} {number}", limits)


def standardised(x: Tensor) -> Tensor:
    """Shift and scale each image to mean 0 and, unless it is uniform, deviation 1."""
    mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), keepdim=True)
    return (x - mean) / variance.clamp_min(1 / x[0].numel()).sqrt()
