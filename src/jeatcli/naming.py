"""What to call several models beside each other, so that they can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def told_apart(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Return the names; those of different files that are equal are led by their directories.

    Args:
        names: Of models; a run has that of its directory.
        paths: Their files. One file has one name, however often it comes.
    """
    places = [path.absolute() for path in paths]
    found = dict(zip(places, names, strict=True))
    for name in set(names):
        alike = [place for place in found if found[place] == name]
        if len(alike) < 2:
            continue
        for depth in range(1, max(len(place.parts) for place in alike)):
            led = {place: "/".join([*_above(place, name)[-depth:], name]) for place in alike}
            if len(set(led.values())) == len(alike):
                break
        found |= led
    return [found[place] for place in places]


def _above(place: Path, name: str) -> list[str]:
    """Return the directories above what has the name: a run, or a file."""
    above = list(place.parent.parts[1:])
    return above[:-1] if above[-1:] == [name] else above


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Return the names without their middle where they are too long, unless that makes two alike.

    What tells runs apart, a seed or a radius, is mostly at the end.
    """
    head = (longest - 1) // 2
    tail = longest - 1 - head
    cut = [name if len(name) <= longest else f"{name[:head]}…{name[-tail:]}" for name in names]
    return cut if len(set(cut)) == len(set(names)) else list(names)
