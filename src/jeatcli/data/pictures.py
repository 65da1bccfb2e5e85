"""Images as files: rounding, grids, PNGs that carry their settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ..errors import JeatError
from ..runtime.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    Pixels = Tensor | NDArray[Any]

# Neither black nor white, which are the ground of drawn digits.
_BACKGROUND = 96
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
    images: Pixels, columns: int | None = None, scale: int = 1, padding: int = 2
) -> Image.Image:
    """Lay images out in rows, the first at the top left.

    Args:
        images: (n,C,H,W) in [0, 1], C = 1 or 3.
        columns: Images in a row; without it the nearest to a square.
        scale: Each pixel becomes a square of this many pixels a side.
        padding: Width of the grey lines between and around the images, in pixels.
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
    return to_image(canvas)


def save_png(image: Image.Image, path: Path, text: Mapping[str, str] | None = None) -> Path:
    """Write `image` as a PNG whose text chunks hold `text`, whole or not at all.

    Raises:
        JeatError: If the file cannot be written.
    """
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    return write_atomic(path, lambda beside: image.save(beside, format="PNG", pnginfo=chunks))


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
