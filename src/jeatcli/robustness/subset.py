"""Which of the test images are attacked."""

from pathlib import Path

import torch
from torch import Tensor

from ..data.images import Images
from ..errors import JeatError, UsageProblem
from .settings import AttackSettings

CPU_IMAGES = 1000


def subset(
    images: Images, settings: AttackSettings, only: int | None, target: int | None, on_cpu: bool
) -> Tensor:
    """Return the indices in the test set (n,) of the images to attack.

    They are of class `only`, if it is given, and not of class `target`.
    """
    chosen = torch.arange(len(images))
    if settings.indices is not None:
        chosen = read_indices(settings.indices, len(images))
    where = "" if settings.indices is None else f" in `{settings.indices}`"
    if only is not None:
        chosen = chosen[images.y[chosen] == only]
        where += f" of class `{images.classes[only]}`"
    if not len(chosen):
        raise UsageProblem(f"there are no test images{where}", "name another class or file")
    if settings.num is not None and settings.num > len(chosen):
        raise UsageProblem(
            f"there are not {settings.num:,} test images{where}, but {len(chosen):,}", "lower `-n`"
        )
    usual = CPU_IMAGES if on_cpu and settings.indices is None else len(chosen)
    chosen = chosen[: settings.num or usual]
    if target is not None:
        chosen = chosen[images.y[chosen] != target]
    if not len(chosen):
        hint = "give more by `-n`" if only != target else "choose two classes"
        raise UsageProblem("all the images are of the target class", hint)
    return chosen


def spread(images: Images, count: int) -> Images:
    """Return at most `count` images from all over a set, which may be in the order of classes."""
    indices = torch.linspace(0, len(images) - 1, min(count, len(images))).long()
    return images.take(indices)


def read_indices(path: Path, available: int) -> Tensor:
    """Read indices of the test set, whole numbers between white space or commas."""
    try:
        words = path.read_text(encoding="utf-8").replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not text"
        raise JeatError(f"cannot read `{path}`: {reason}", "give a text file of numbers") from None
    for word in words:
        if not (word.isdecimal() and len(word) < 20 and int(word) < available):
            raise UsageProblem(
                f"`{word[:40]}` in `{path}` is not the index of a test image",
                f"they are numbered 0 to {available - 1}",
            )
    if not words:
        raise UsageProblem(f"`{path}` holds no index")
    indices = [int(word) for word in words]
    if len(set(indices)) < len(indices):
        raise UsageProblem(f"an index appears twice in `{path}`", "list each image once")
    return torch.tensor(indices)
