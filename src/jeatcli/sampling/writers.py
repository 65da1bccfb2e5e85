"""Drawn images as files, written batch by batch: a drawing that was killed goes on where it was."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data import pictures
from ..data.provenance import IMAGES, TEXT, of_pictures
from ..errors import JeatError
from ..runtime.distributed import current
from ..runtime.files import check_writable, writing
from ..runtime.progress import SILENT, Reporter
from .drawing import Drawing, Samples

_STRIP_FRAMES = 9
_ANIMATION_FRAMES = 33
# Side of a small image in a grid, in pixels.
_SIDE = 32


def save_folder(
    drawing: Drawing, folder: Path, batch_size: int = 256, reporter: Reporter = SILENT
) -> None:
    """Draw into `000000.png` and so on, each with the settings that drew it.

    An image that is there already, with the same settings, is not drawn again. Of several
    processes only the first writes, here and in `save_npz`.

    Raises:
        JeatError: If a file cannot be written, or images of another drawing would stay beside
            these.
    """
    about, classes = drawing.identity, drawing.recipe.model.meta.classes
    current().from_main(lambda: _refuse_others(folder, len(drawing.labels), about))
    if not current().is_main:
        drawing.follow(batch_size)
        return
    names = [classes[label] for label in drawing.labels.tolist()]
    texts = [{TEXT: json.dumps(about | {"image": k, "class": c})} for k, c in enumerate(names)]
    there = {k for k, text in enumerate(texts) if _carries(folder / f"{k:06d}.png", text)}
    if there:
        reporter.say(f"{len(there):,} of {len(texts):,} images are in `{folder}` already")
    for index, images in drawing.batches(batch_size, reporter, skip=there):
        for k, pixels in zip(index.tolist(), pictures.to_uint8(images), strict=True):
            pictures.save_png(pictures.to_image(pixels), folder / f"{k:06d}.png", texts[k])


def _carries(path: Path, text: Mapping[str, str]) -> bool:
    try:
        with Image.open(path) as image:
            return image.info == text
    except OSError:
        return False


def _refuse_others(folder: Path, count: int, about: Mapping[str, Any]) -> None:
    """Refuse a folder with more images than are drawn now, if those are of another drawing."""
    numbered = [path for path in folder.glob("*.png") if path.stem.isdigit()]
    for path in sorted(path for path in numbered if int(path.stem) >= count):
        with suppress(OSError), Image.open(path) as image:
            if of_pictures([image.info.get(TEXT)]).sampling == about:
                continue
        raise JeatError(
            f"`{path}` is of another drawing, and would be taken for one of these images",
            "name another directory with `-o`, or remove what is in this one",
        )


def save_npz(
    drawing: Drawing, path: Path, batch_size: int = 256, reporter: Reporter = SILENT
) -> None:
    """Draw into an archive of improved-diffusion's layout, by way of a file beside it.

    That file grows by a batch at a time, and is gone when the archive is there. An archive of
    the same drawing stays as it is.

    Raises:
        JeatError: If a file cannot be written.
    """
    about, shape = drawing.identity, drawing.recipe.model.meta.shape
    if current().from_main(lambda: _holds(path, about, drawing.labels.tolist())):
        reporter.say(f"the images are in `{path}` already")
        return
    if not current().is_main:
        drawing.follow(batch_size)
        return
    check_writable(path)
    beside = path.with_name(f".{path.name}.part")
    header = json.dumps(about | {"labels": drawing.labels.tolist()}).encode() + b"\n"
    count, size = len(drawing.labels), math.prod(shape)
    if done := _done(beside, header, size):
        reporter.say(f"{done:,} of {count:,} images are drawn already")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with writing(path), beside.open("rb+" if done else "wb") as file:
            file.write(header)
            for index, images in drawing.batches(batch_size, reporter, skip=range(done)):
                file.seek(len(header) + int(index[0]) * size)
                file.write(pictures.to_uint8(images).tobytes())
                file.flush()
    except JeatError:
        if not _done(beside, header, size):
            beside.unlink(missing_ok=True)
        raise
    pixels = np.fromfile(beside, np.uint8, count * size, offset=len(header))
    text = {TEXT: json.dumps(about | {IMAGES: count})}
    pictures.save_npz(pixels.reshape(count, *shape), drawing.labels, path, text)
    beside.unlink()


def _holds(path: Path, about: Mapping[str, Any], labels: list[int]) -> bool:
    """Tell whether an archive holds all of these images."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            same = arrays["arr_1"].tolist() == labels and len(arrays["arr_0"]) == len(labels)
            return same and json.loads(str(arrays[TEXT])) == {**about, IMAGES: len(labels)}
    except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile):
        return False


def _done(beside: Path, header: bytes, size: int) -> int:
    """Return how many whole images of this drawing a file holds."""
    if not beside.is_file():
        return 0
    with beside.open("rb") as file:
        same = file.read(len(header)) == header
    return max(0, beside.stat().st_size - len(header)) // size if same else 0


def save_grid(drawn: Samples, path: Path, scale: int | None = None) -> Image.Image:
    """Write one picture of all images, a column a class, after the one they were made of.

    Raises:
        JeatError: If the file cannot be written.
    """
    scale = scale or max(1, _SIDE // drawn.images.shape[-1])
    images = drawn.images
    # The classes come in turn, one that was named twice included.
    turn = min(len(drawn.settings.get("classes", drawn.classes)), len(images))
    columns = turn if 1 < turn <= 20 else None
    if drawn.origin is not None:
        images = torch.cat([drawn.origin[None], images])
        columns = min(len(images), 11)
    if "interpolate" in drawn.settings:
        columns = min(len(images), 16)
    picture = pictures.grid(images, columns, scale)
    pictures.save_png(picture, path, {TEXT: json.dumps(drawn.settings)})
    return picture


def frames_for(path: Path) -> int:
    """Return how many states `save_trace` shows in a strip, or in an animation."""
    return _STRIP_FRAMES if path.suffix.lower() == ".png" else _ANIMATION_FRAMES


def save_trace(drawn: Samples, path: Path, scale: int | None = None) -> None:
    """Write the first images on their way, as a strip (.png) or an animation (.gif, .webp).

    Raises:
        JeatError: If the file cannot be written.
    """
    assert drawn.trace is not None
    frames, steps = drawn.trace
    scale = scale or max(1, _SIDE // frames.shape[-1])
    settings = drawn.settings | {"trace": steps}
    if path.suffix.lower() == ".png":
        pictures.save_png(pictures.strip(frames, scale), path, {TEXT: json.dumps(settings)})
    else:
        pictures.save_animation(frames, path, scale, settings)
