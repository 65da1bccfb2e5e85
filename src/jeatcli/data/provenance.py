"""How images were made: known of those just drawn, read from the files of `jeat sample`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..runtime.plain import parsed

# The key of the text that is in a PNG and in an .npz.
TEXT = "jeat"
# The key in the text of an .npz for the number of images drawn into it.
IMAGES = "images"
# The key in an .npz for the names of the classes.
CLASSES = "classes"
# The keys in the text of a PNG that belong to that image alone.
_OWN = ("image", "class")


@dataclass(frozen=True)
class Provenance:
    """How images were made, as far as it is known.

    `sampling` has the settings that drew them, with the fingerprint of the weights; it is None if
    they are of several drawings.
    """

    sampling: Mapping[str, Any] | None = None
    # The number of images by the name of the class, by its index where there are no names.
    classes: Mapping[Any, int] | None = None
    lossy: bool = False  # whether they were stored in a format that changes pixels
    drawn: int | None = None  # at least how many were drawn, where some are missing here

    @property
    def selection(self) -> str | None:
        """How the images were selected from more; None if they were not, or it is not known."""
        settings = self.sampling or {}
        reasons = []
        if "best_of" in settings:
            objective = settings.get("objective", "unknown")
            reasons.append(f"the best of {settings['best_of']} by {objective} energy")
        if self.drawn is not None:
            present = sum((self.classes or {}).values())
            reasons.append(f"{present:,} of the {self.drawn:,} or more that were drawn")
        return ", ".join(reasons) or None

    @property
    def pictures(self) -> str | None:
        """The pictures that the images started from; None if from none, or it is not known."""
        settings = self.sampling or {}
        if settings.get("init") == "data":
            return "training images"
        return "a picture" if settings.keys() & {"from", "inpaint"} else None


def of_pictures(texts: Iterable[str | None], lossy: bool = False) -> Provenance:
    """Return the provenance of pictures by their texts, if all are from one drawing.

    The pictures of a drawing are numbered from 0: a gap shows that some were removed, a number
    that occurs twice that others were added.
    """
    sampling: dict[str, Any] | None = None
    classes: Counter[str] = Counter()
    numbers: set[int] = set()
    for record in map(parsed, texts):
        settings = {key: value for key, value in record.items() if key not in _OWN}
        number = record.get("image")
        drawn_together = settings and sampling in (None, settings)
        if not drawn_together or not isinstance(number, int) or number in numbers:
            return Provenance(lossy=lossy)
        sampling = settings
        classes[str(record.get("class"))] += 1
        numbers.add(number)
    if not numbers:
        return Provenance(lossy=lossy)
    drawn = max(numbers) + 1
    return Provenance(sampling, classes, lossy, drawn if drawn > len(numbers) else None)


def image_numbers(texts: Sequence[str | None]) -> list[int] | None:
    """Return the number of each picture in its drawing; None unless all are from one drawing."""
    numbers = [parsed(text).get("image") for text in texts]
    if of_pictures(texts).sampling is None:
        return None
    return [number for number in numbers if isinstance(number, int)]


def of_archive(
    text: str | None, labels: Sequence[int], num: int | None, names: Sequence[str]
) -> Provenance:
    """Return the provenance of the first `num` images of an archive.

    It has their text, their labels, and the names of the classes.
    """
    settings = parsed(text)
    drawn = settings.pop(IMAGES, None)
    if not settings or not isinstance(drawn, int):
        return Provenance()
    missing = drawn if len(labels) < drawn else None
    known = all(0 <= label < len(names) for label in labels)
    classes = Counter[Any](names[label] if known else label for label in labels[:num])
    return Provenance(settings, classes, drawn=missing)
