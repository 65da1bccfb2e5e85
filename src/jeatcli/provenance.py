"""How images came to be: known of those that are drawn, told by those that `jeat sample` wrote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# The key of the text that is in a PNG and in an .npz.
TEXT = "jeat"
# What the text of a PNG says of that image alone.
_OWN = ("image", "class")


@dataclass(frozen=True)
class Provenance:
    """How images were made, as far as it is known.

    Args:
        sampling: The settings that drew them, the fingerprint of the weights among them; None if
            that is not known, or they are of several drawings.
        classes: How many there are of each class.
        lossy: Whether they were stored in a format that changes pixels.
    """

    sampling: Mapping[str, Any] | None = None
    classes: Mapping[Any, int] | None = None
    lossy: bool = False

    @property
    def selection(self) -> str | None:
        """By what images were chosen among more; None if they were not, or it is not known."""
        if self.sampling is None or "best_of" not in self.sampling:
            return None
        return f"the best of {self.sampling['best_of']} by {self.sampling['objective']} energy"

    @property
    def pictures(self) -> str | None:
        """From which pictures the images were drawn; None if from none, or it is not known."""
        said = self.sampling or {}
        if said.get("init") == "data":
            return "training images"
        return "a picture" if said.keys() & {"from", "inpaint"} else None


def of_pictures(texts: Iterable[str | None], lossy: bool = False) -> Provenance:
    """Return what the texts of all pictures say, where they are of one drawing."""
    sampling: dict[str, Any] | None = None
    classes: Counter[str] = Counter()
    for said in map(_parsed, texts):
        settings = {key: value for key, value in said.items() if key not in _OWN}
        if not settings or sampling not in (None, settings):
            return Provenance(lossy=lossy)
        sampling = settings
        classes[str(said.get("class"))] += 1
    return Provenance(sampling, classes, lossy) if sampling else Provenance(lossy=lossy)


def of_archive(text: str | None, labels: Iterable[int]) -> Provenance:
    """Return what the text of an archive says, and the labels of its images."""
    said = _parsed(text)
    return Provenance(said, Counter(labels)) if said else Provenance()


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
