"""Images as files: rounding, grids, PNGs that carry their settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ..errors import JeatError
from ..runtime.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    Pixels = Tensor | NDArray[Any]

# Neither black nor white, which are the ground of drawn digits.
_BACKGROUND = 96
_GREY: dict[str, int | tuple[int, int, int]] = {"L": 96, "RGB": (96, 96, 96)}
_WHITE: dict[str, int | tuple[int, int, int]] = {"L": 255, "RGB": (255, 255, 255)}
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# Sizes of the text above columns, in pixels.
_HEADING, _SMALLEST_HEADING = 18, 9
_FRAME_MS = 80
_LAST_FRAME_MS = 1500


def to_uint8(images: Pixels) -> NDArray[np.uint8]:
    """Round pixels in [0, 1] to the nearest of 0..255, halves up, as `save_image` of torchvision.

    Values outside [0, 1] are clipped; uint8 input is returned as it is.

    Raises:
        JeatError: If a value is not finite.
    """
    array = _array(images)
    if array.dtype == np.uint8:
        return array
    if not np.isfinite(array).all():
        raise JeatError(
            "the images hold values that are not finite",
            "the chain that drew them ran away: lower its step size",
        )
    rounded: NDArray[np.uint8] = np.floor(np.clip(array, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return rounded


def to_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Turn one (C,H,W) uint8 array, C = 1 or 3, into a picture."""
    planes = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)


def grid(
    images: Pixels,
    columns: int | None = None,
    scale: int = 1,
    padding: int = 2,
    headings: Sequence[str] = (),
) -> Image.Image:
    """Lay images out in rows, the first at the top left.

    Args:
        images: (n,C,H,W) in [0, 1], C = 1 or 3.
        columns: Images in a row; without it the nearest to a square.
        scale: Each pixel becomes a square of this many pixels a side.
        padding: Width of the grey lines between and around the images, in pixels.
        headings: Texts above the columns.
    """
    pixels = to_uint8(images).repeat(scale, axis=2).repeat(scale, axis=3)
    count, channels, height, width = pixels.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    tall, wide = height + padding, width + padding
    canvas = np.full(
        (channels, rows * tall + padding, columns * wide + padding), _BACKGROUND, dtype=np.uint8
    )
    for index, image in enumerate(pixels):
        top = padding + index // columns * tall
        left = padding + index % columns * wide
        canvas[:, top : top + height, left : left + width] = image
    drawn = to_image(canvas)
    return _below_headings(drawn, headings, wide, padding) if headings else drawn


def _below_headings(
    drawn: Image.Image, headings: Sequence[str], wide: int, padding: int
) -> Image.Image:
    """Return a grid whose columns are `wide` with a line of text above them."""
    size = _HEADING
    while size > _SMALLEST_HEADING and _longest(headings, size) > wide - padding:
        size -= 1
    height = size + 2 * padding
    canvas = Image.new(drawn.mode, (drawn.width, drawn.height + height), _GREY[drawn.mode])
    canvas.paste(drawn, (0, height))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size)
    for column, heading in enumerate(headings):
        text = heading
        while len(text) > 1 and draw.textlength(text, font) > wide - padding:
            text = text.removesuffix("\u2026")[:-1] + "\u2026"
        middle = padding + column * wide + (wide - padding) / 2
        draw.text((middle, height / 2), text, _WHITE[drawn.mode], font, anchor="mm")
    return canvas


def _longest(texts: Sequence[str], size: int) -> float:
    font = ImageFont.load_default(size)
    return max(font.getlength(text) for text in texts)


def save_png(image: Image.Image, path: Path, text: Mapping[str, str] | None = None) -> Path:
    """Write `image` as a PNG whose text chunks hold `text`, whole or not at all.

    Raises:
        JeatError: If the file cannot be written.
    """
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    return write_atomic(path, lambda beside: image.save(beside, format="PNG", pnginfo=chunks))


def embedded_text(path: Path) -> dict[str, str] | None:
    """Return the text in a PNG that is whole to its last byte, or None for any other file."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), 2)
            if file.read() != _PNG_END:
                return None
        with Image.open(path) as image:
            image.verify()
        with Image.open(path) as image:
            image.load()
            return {str(key): str(value) for key, value in image.info.items()}
    except (OSError, SyntaxError, ValueError):
        return None


def save_images(
    images: Pixels, folder: Path, text: Mapping[str, str] | None = None, start: int = 0
) -> list[Path]:
    """Write (n,C,H,W) images in [0, 1] as `000000.png` and so on, the first numbered `start`.

    Raises:
        JeatError: If a file cannot be written.
    """
    return [
        save_png(to_image(pixels), folder / f"{start + index:06d}.png", text)
        for index, pixels in enumerate(to_uint8(images))
    ]


def strip(frames: Pixels, scale: int = 1) -> Image.Image:
    """Lay the states (frames,n,C,H,W) of images out in rows, an image a row, the first at left."""
    states = to_uint8(frames).swapaxes(0, 1)
    return grid(states.reshape(-1, *states.shape[2:]), columns=states.shape[1], scale=scale)


def save_animation(
    frames: Pixels, path: Path, scale: int = 1, text: Mapping[str, Any] | None = None
) -> Path:
    """Write the states (frames,n,C,H,W) of images as a GIF or a WebP, by the ending of `path`.

    It shows the images side by side, and rests at the last state. The file holds `text`.

    Raises:
        JeatError: If the file cannot be written.
    """
    pictures = [grid(state, len(state), scale) for state in to_uint8(frames)]
    times = [_FRAME_MS] * (len(pictures) - 1) + [_LAST_FRAME_MS]
    kind = path.suffix.lower().removeprefix(".").upper()
    comment = json.dumps(dict(text or {})).encode()
    more: dict[str, Any] = (
        {"lossless": True, "xmp": comment} if kind == "WEBP" else {"comment": comment}
    )

    def write(beside: Path) -> None:
        pictures[0].save(
            beside,
            format=kind,
            save_all=True,
            append_images=pictures[1:],
            duration=times,
            loop=0,
            **more,
        )

    return write_atomic(path, write)


def save_npz(
    images: Pixels, labels: Pixels, path: Path, text: Mapping[str, str] | None = None
) -> Path:
    """Write (n,C,H,W) images in [0, 1] and labels (n,) in the layout of improved-diffusion.

    `arr_0` holds the pixels, uint8 (n,H,W,C), `arr_1` the labels, and each key of `text` a text.

    Raises:
        JeatError: If the file cannot be written.
    """
    pixels = to_uint8(images).transpose(0, 2, 3, 1)
    texts: dict[str, Any] = {key: np.array(value) for key, value in (text or {}).items()}

    def write(beside: Path) -> None:
        with beside.open("wb") as handle:
            np.savez_compressed(handle, arr_0=pixels, arr_1=_array(labels), **texts)

    return write_atomic(path, write)


def _array(images: Pixels) -> NDArray[Any]:
    """Bring a tensor of any device, or an array, to numpy."""
    return images if isinstance(images, np.ndarray) else images.detach().cpu().numpy()
