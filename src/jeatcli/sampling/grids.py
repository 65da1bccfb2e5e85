"""Drawn images as one picture: a grid, and the first of them along their descent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data import pictures
from ..data.provenance import TEXT
from ..errors import UsageProblem
from .plan import SamplingPlan, Trace
from .sample import Samples

if TYPE_CHECKING:
    from PIL.Image import Image

_STRIP_FRAMES = 9
_ANIMATION_FRAMES = 33
# Side of a small image in a grid, in pixels.
_SIDE = 64
# More classes have no column each.
_MOST_COLUMNS = 20
# Bytes of the pixels of one picture, of which a few copies are in memory at once.
_LARGEST = 10**9


def check_size(plan: SamplingPlan, scale: int | None = None, frames: int = 0) -> None:
    """Refuse a picture that would take too much memory, before its images are drawn.

    `frames` states of the first images are in a picture of their own.
    """
    channels, height, width = plan.model.meta.shape
    scale = scale or max(1, _SIDE // width)
    images = len(plan.labels) + (plan.origin is not None)
    most = max(images, frames * min(len(plan.labels), Trace.images))
    if (size := most * channels * height * width * scale**2) > _LARGEST:
        raise UsageProblem(
            f"a picture of {most:,} images of {width * scale:,}x{height * scale:,} pixels would "
            f"take {size / 1e9:.0f} GB several times over",
            "lower `--scale`, or draw fewer images in it: `--format png` and `--format npz` have "
            "no such limit",
        )


def save_grid(
    samples: Samples,
    path: Path,
    text: Mapping[str, Any],
    scale: int | None = None,
    columns: int | None = None,
    headings: bool = True,
) -> Image:
    """Write a .png of all images, the one they were made of first; return the picture.

    `text`, what is known of the images, is kept in the file. A pixel becomes a square of side
    `scale`; by default small images become 64 pixels wide. Of `columns` there are by default one or
    several for each class; `headings` puts the classes above them.
    """
    images = samples.images
    if samples.origin is not None:
        images = torch.cat([samples.origin[None], images])
    columns = columns or _columns(samples)
    above = _headings(samples, columns) if headings else ()
    picture = pictures.grid(images, columns, scale or _scale(images), headings=above)
    pictures.save_png(picture, path, {TEXT: json.dumps(dict(text))})
    return picture


def _scale(images: torch.Tensor) -> int:
    return max(1, _SIDE // images.shape[-1])


def _in_turn(samples: Samples) -> list[str]:
    """Return the classes that take turns, one that was named twice included."""
    return list(samples.settings.get("classes", samples.classes))[: len(samples.images)]


def _columns(samples: Samples) -> int:
    count, turn = len(samples.images), len(_in_turn(samples))
    if samples.origin is not None:
        return min(count + 1, 11)
    if "interpolate" in samples.settings:
        return min(count, 16)
    if not 1 < turn <= _MOST_COLUMNS:
        return math.ceil(math.sqrt(count))
    return turn * max(1, round(math.sqrt(count) / turn))


def _headings(samples: Samples, columns: int) -> list[str]:
    """Return what stands above the columns, nothing where they are not of one class each."""
    names = [samples.classes[label] for label in samples.labels.tolist()]
    if samples.origin is not None:
        return ["original", *names] if len(names) < columns else []
    if "interpolate" in samples.settings:
        one_row = 1 < len(names) <= columns
        return [names[0], *[""] * (len(names) - 2), names[-1]] if one_row else []
    turn = _in_turn(samples)
    if len(set(turn)) == 1:
        return turn[:1]
    columns = min(columns, len(names))
    return names[:columns] if columns % len(turn) == 0 else []


def frames_for(path: Path) -> int:
    """Return how many states `save_trace` shows in a strip, or in an animation."""
    return _STRIP_FRAMES if path.suffix.lower() == ".png" else _ANIMATION_FRAMES


def save_trace(
    samples: Samples, path: Path, scale: int | None = None, headings: bool = True
) -> None:
    """Write the first images along their descent: a strip (.png) or an animation (.gif, .webp).

    `headings` puts the steps above the columns of a strip.
    """
    assert samples.trace is not None
    frames, steps = samples.trace
    scale = scale or _scale(frames)
    # First, as the comments of a GIF are cut into pieces, and this tells what the file is.
    settings = {"trace": steps, **samples.settings}
    if path.suffix.lower() == ".png":
        above = [f"step {step}" if step else "start" for step in steps] if headings else ()
        picture = pictures.strip(frames, scale, above)
        pictures.save_png(picture, path, {TEXT: json.dumps(settings)})
    else:
        pictures.save_animation(frames, path, scale, settings)
