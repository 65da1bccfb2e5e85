"""What `jeat landscape` shows: one file a kind, its fields are its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..catalogue import Catalogue, Entry
from ..errors import UsageProblem

if TYPE_CHECKING:
    from .view import View

KINDS = Catalogue(
    "kind",
    {
        "contour": Entry(
            "The energy on a plane through an image (Zhu et al. 2021, Figure 2)",
            "jeatcli.landscapes.contour:Contour",
        ),
        "histogram": Entry(
            "Histograms of E(x) and E(x,y): real, adversarial, noisy and sampled images, and noise",
            "jeatcli.landscapes.histogram:Histogram",
        ),
        "path": Entry(
            "The energies along the way of an attack, on beyond its ball, and along a chain",
            "jeatcli.landscapes.path:Path",
        ),
        "sharpness": Entry(
            "Numbers over many images: how far and how steeply the energy rises around them",
            "jeatcli.landscapes.sharpness:SharpnessView",
        ),
    },
)


def make(kind: str, settings: Mapping[str, Any]) -> View:
    """Build the view called `kind`; settings that are None are left to their defaults.

    Raises:
        UsageProblem: If there is no such kind, it has no such setting, or a value is out of range.
    """
    view: type[View] = KINDS.load(kind)
    known = [each.name for each in fields(view)]
    said = {key: value for key, value in settings.items() if value is not None}
    for key in said:
        if key not in known:
            raise UsageProblem(
                f"`--{_option(key)}` does nothing for `--kind {kind}`",
                f"its settings are: {', '.join(map(_option, known))}",
            )
    return view(**said)


def _option(field: str) -> str:
    """Return the option of a field; one that would be a word of Python's ends in `_`."""
    return field.rstrip("_").replace("_", "-")
