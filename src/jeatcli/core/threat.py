"""Threat models, and radii as the field writes them: 8/255."""

import math
from dataclasses import dataclass
from numbers import Real

from ..catalogue import Catalogue, Entry
from ..errors import UsageProblem, unknown
from ..settings import parse_number as parse_number


@dataclass(frozen=True)
class Threat:
    """The attacker's perturbations: a ball of radius `eps` around an image.

    Args:
        norm: A name of `NORMS`.
        eps: The radius, in the [0, 1] pixel scale.

    Examples:
        >>> from jeatcli import Threat
        >>> str(Threat("linf", 8 / 255))
        'linf 8/255'
    """

    norm: str
    eps: float

    def __post_init__(self) -> None:
        if not isinstance(self.eps, Real) or not isinstance(self.norm, str):
            raise UsageProblem(
                f"a threat model is a norm and a radius, not {self.norm!r} and {self.eps!r}",
                'write it as `Threat("linf", 8 / 255)`',
            )
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise UsageProblem(f"eps must be at least 0, not {self.eps}")
        if self.norm == "linf" and self.eps > 1:
            raise UsageProblem(
                f"eps {self.eps:g} under linf is more than the whole pixel range [0, 1]",
                f"did you mean {self.eps:g}/255?",
            )

    def __str__(self) -> str:
        return f"{self.norm} {fraction(self.eps)}"


NORMS = Catalogue(
    "norm",
    {
        "linf": Entry("The largest pixel", "jeatcli.core.pgd:Linf"),
        "l2": Entry("The Euclidean length", "jeatcli.core.pgd:L2"),
        "l1": Entry("The sum of all changes", "jeatcli.core.pgd:L1"),
    },
)


def fraction(value: float) -> str:
    """Write `value` as a fraction of 255 if it is one and has no short decimal."""
    over = value * 255
    # 0.2 happens to be 51/255.
    short = abs(value - round(value, 3)) < 1e-9 or abs(value - float(f"{value:g}")) < 1e-12
    if value < 1 and over >= 0.01 and abs(over - round(over, 3)) < 1e-6 and not short:
        return f"{round(over, 3):g}/255"
    return f"{value:g}"
