"""How images came to be: known of those that are drawn, told by those that `jeat sample` wrote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The key of the text that is in a PNG and in an .npz.
TEXT = "jeat"
# What the text of an .npz says beside: how many images were drawn into it.
IMAGES = "images"
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
        drawn: How many images were drawn, at least, where some of them are missing here.
    """

    sampling: Mapping[str, Any] | None = None
    classes: Mapping[Any, int] | None = None
    lossy: bool = False
    drawn: int | None = None

    @property
    def selection(self) -> str | None:
        """By what images were chosen among more; None if they were not, or it is not known."""
        said = self.sampling or {}
        reasons = []
        if "best_of" in said:
            reasons.append(
                f"the best of {said['best_of']} by {said.get('objective', 'unknown')} energy"
            )
        if self.drawn is not None:
            there = sum((self.classes or {}).values())
            reasons.append(f"{there:,} of the {self.drawn:,} or more that were drawn")
        return ", ".join(reasons) or None

    @property
    def pictures(self) -> str | None:
        """From which pictures the images were drawn; None if from none, or it is not known."""
        said = self.sampling or {}
        if said.get("init") == "data":
            return "training images"
        return "a picture" if said.keys() & {"from", "inpaint"} else None


def of_pictures(texts: Iterable[str | None], lossy: bool = False) -> Provenance:
    """Return what the texts of all pictures say, where they are of one drawing.

    The pictures of a drawing are numbered from 0: by a gap in the numbers a folder is known that
    somebody has thinned out, and by a number that comes twice one that was filled up.
    """
    sampling: dict[str, Any] | None = None
    classes: Counter[str] = Counter()
    numbers: set[int] = set()
    for said in map(_parsed, texts):
        settings = {key: value for key, value in said.items() if key not in _OWN}
        if not settings or sampling not in (None, settings):
            return Provenance(lossy=lossy)
        number = said.get("image")
        if not isinstance(number, int) or number in numbers:
            return Provenance(lossy=lossy)
        sampling = settings
        classes[str(said.get("class"))] += 1
        numbers.add(number)
    if not numbers:
        return Provenance(lossy=lossy)
    drawn = max(numbers) + 1
    return Provenance(sampling, classes, lossy, drawn if drawn > len(numbers) else None)


def image_numbers(texts: Sequence[str | None]) -> list[int] | None:
    """Return the number of each picture in its drawing; None if they are of no one drawing."""
    numbers = [_parsed(text).get("image") for text in texts]
    if of_pictures(texts).sampling is None:
        return None
    return [number for number in numbers if isinstance(number, int)]


def of_archive(text: str | None, labels: Sequence[int], num: int | None = None) -> Provenance:
    """Return what the text of an archive says, and the labels of its first `num` images."""
    said = _parsed(text)
    drawn = said.pop(IMAGES, None)
    if not said or not isinstance(drawn, int):
        return Provenance()
    missing = drawn if len(labels) < drawn else None
    return Provenance(said, Counter(labels[:num]), drawn=missing)


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
