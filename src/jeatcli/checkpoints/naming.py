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
        ends = dict.fromkeys(alike, name)
        if len({place.parent for place in alike}) < len(alike):
            # Two files of one directory: `net.pt` and `net.pth`.
            ends = {place: f"{name}{place.suffix}" for place in alike}
        for depth in range(max(len(place.parts) for place in alike)):
            led = {place: "/".join([*_above(place, name, depth), ends[place]]) for place in alike}
            if len(set(led.values())) == len(alike):
                break
        found |= led
    return [found[place] for place in places]


def _above(place: Path, name: str, depth: int) -> list[str]:
    """Return so many directories above what has the name: a run, a file of it, or a file."""
    above = list(place.parent.parts[1:])
    if above[-1:] == [name.partition("/")[0]]:
        above.pop()
    return above[-depth:] if depth else []


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Return the names without their middle where they are too long, unless that makes two alike.

    What tells runs apart, a seed or a radius, is mostly at the end.
    """
    head = (longest - 1) // 2
    tail = longest - 1 - head
    cut = [name if len(name) <= longest else f"{name[:head]}…{name[-tail:]}" for name in names]
    return cut if len(set(cut)) == len(set(names)) else list(names)
