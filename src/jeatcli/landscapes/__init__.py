"""`jeat landscape`: energies around images, as numbers; `plots` draws them.

May import `sampling` and what it may. A new kind is a settings class, a function that measures,
and a row of `KINDS`; its figure is a function and a row of `plots.landscape.FIGURES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..catalogue import Catalogue, Entry
from ..errors import UsageProblem
from .settings import (
    ContourSettings,
    HistogramSettings,
    LandscapeSettings,
    PathSettings,
    SharpnessSettings,
)


@dataclass(frozen=True)
class Kind(Entry):
    """A kind of landscape; `target` is a function of `LandscapeInputs` and these settings."""

    settings: type[LandscapeSettings]


KINDS = Catalogue(
    "kind",
    {
        "contour": Kind(
            "The energy on a plane through an image (Zhu et al. 2021, Figure 2)",
            "jeatcli.landscapes.contour:measure_contour",
            ContourSettings,
        ),
        "histogram": Kind(
            "Histograms of E(x) and E(x,y): real, adversarial, noisy and sampled images, and noise",
            "jeatcli.landscapes.histogram:measure_histogram",
            HistogramSettings,
        ),
        "path": Kind(
            "The energies along an attack, past the edge of its ball, and along a chain",
            "jeatcli.landscapes.path:measure_path",
            PathSettings,
        ),
        "sharpness": Kind(
            "How far and how steeply the energy rises around many images",
            "jeatcli.landscapes.sharpness:measure_sharpness",
            SharpnessSettings,
        ),
    },
)


def make_settings(kind: str, changes: Mapping[str, object]) -> LandscapeSettings:
    """Return the settings of a kind; what is None is left to its default.

    Raises:
        UsageProblem: If there is no such kind, it has no such setting, or a value is out of range.
    """
    settings = KINDS.match(str(kind))[0].settings
    known = [field.name for field in fields(settings)]
    for key, value in changes.items():
        if key not in known and value is not None:
            own = [name for name in known if name not in LandscapeSettings.__dataclass_fields__]
            others = [each for each in KINDS if key in KINDS[each].settings.__dataclass_fields__]
            theirs = f"it is for `--kind {'|'.join(others)}`; " if others else ""
            raise UsageProblem(
                f"`--{_option(key)}` does nothing for `--kind {kind}`",
                f"{theirs}`{kind}` has {', '.join(map(_option, own))}",
            )
    return settings.of({key: value for key, value in changes.items() if key in known})


def _option(field: str) -> str:
    """Return the option of a field; a field that would be a keyword of Python's ends in `_`."""
    return field.rstrip("_").replace("_", "-")
