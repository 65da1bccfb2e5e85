"""Pictures as files: read safely, written whole, with a text that says how they were made.

The only module with Pillow, which may use the decoders of `FORMATS` alone.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin
from torch import Tensor

from ..errors import JeatError
from ..runtime.files import write_atomic

Pixels = Tensor | NDArray[Any]
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
_MODES = {1: "L", 3: "RGB"}
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# The last chunk of a whole PNG.
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_ORIENTATION = 0x0112  # in EXIF
# Neither black nor white, which are the ground of drawn digits; and as Pillow writes it.
_BACKGROUND, _GREY = 96, "#606060"
# Width of the grey lines between and around the images of a grid, in pixels.
_LINE = 2
# Sizes of the text above columns, in pixels.
_HEADING, _SMALLEST_HEADING = 18, 9
_FRAME_MS = 80
_LAST_FRAME_MS = 1500


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; what Pillow raises, now or when it decodes, becomes a JeatError."""
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            raise ValueError("it is not a regular file")
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore")  # damaged metadata, which nothing here reads
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise ValueError(f"it has {getattr(image, 'n_frames', 2)} frames")
            yield image
    except (JeatError, MemoryError):
        raise
    except FileNotFoundError as problem:
        raise JeatError(f"there is no picture `{path}`", "check the path") from problem
    except Exception as problem:  # Pillow raises nearly every kind on damaged files
        raise JeatError(
            f"`{path}` is not a readable picture: {problem}", "repair or remove the file"
        ) from problem


def is_grey(path: Path) -> tuple[bool, tuple[int, int]]:
    """Return whether a picture is grey, and its width and height."""
    with opened(path) as image:
        _check_depth(path, image, (*_GREY_MODES, *_COLOUR_MODES))
        if image.mode in ("P", "PA"):
            colours = np.asarray(image.convert("RGB"))
            return bool((colours == colours[:, :, :1]).all()), image.size
        return image.mode in _GREY_MODES, image.size


def _check_depth(path: Path, image: Image.Image, modes: Sequence[str]) -> None:
    """Refuse a picture that is not of 8 bits; of deep colours Pillow drops half unsaid."""
    deep = any(
        ";16" in str(tile[3]) or (tile[0].startswith("ppm") and tile[3][1] > 255)
        for tile in getattr(image, "tile", ())
    )
    if deep or image.mode not in modes:
        kind = f"16-bit {image.mode}" if deep and ";" not in image.mode else image.mode
        raise JeatError(
            f"`{path}` has pixels of mode {kind}, not 8 bits per channel",
            "save it as greyscale or RGB with 8 bits per channel",
        )


def decode(path: Path) -> tuple[NDArray[np.uint8], bool, bool]:
    """Read a picture as RGB on white, uint8 (H,W,3).

    Also return whether parts of it are transparent, and whether its EXIF data, which are ignored,
    would turn or mirror it.
    """
    with opened(path) as image:
        _check_depth(path, image, (*_GREY_MODES, *_COLOUR_MODES))
        turned = _is_turned(image)
        if "A" not in image.getbands() and "transparency" not in image.info:
            return np.asarray(image.convert("RGB")), False, turned
        colours = image.convert("RGBA")
        transparent = bool((np.asarray(colours)[:, :, 3] < 255).any())
        if transparent:
            colours = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
        return np.asarray(colours.convert("RGB")), transparent, turned


def middle_square(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize the middle square of a picture (H,W,3) to `size` pixels a side, bicubically."""
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (size, size)))


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # damaged metadata do not damage the pixels
        return False


def read_exact(
    path: Path, shape: tuple[int, int, int], needed: str = "the reference images"
) -> NDArray[np.uint8]:
    """Read a picture as it is stored, uint8 (C,H,W); `needed` says what has the required shape."""
    channels, height, width = shape
    with opened(path) as image:
        mode, size = image.mode, image.size
        if mode in _MODES.values():
            _check_depth(path, image, (mode,))
        if "transparency" in image.info:
            mode = f"{mode} with a transparent colour"
        if (mode, size) == (_MODES.get(channels), (width, height)):
            pixels = np.array(image, dtype=np.uint8).reshape(height, width, channels)
            return pixels.transpose(2, 0, 1)
    raise JeatError(
        f"`{path}` is {size[0]}x{size[1]} in mode {mode}, but {needed} are "
        f"{width}x{height} in mode {_MODES.get(channels)}",
        "convert the picture yourself, or name another data set or run",
    )


def light_pixels(path: Path) -> tuple[NDArray[np.bool_], bool]:
    """Return which pixels of a picture, on white, are lighter than medium grey, bool (H,W).

    Also return whether parts of it are transparent.
    """
    pixels, transparent, _ = decode(path)
    return np.array(Image.fromarray(pixels).convert("L")) > 127, transparent


def embedded_text(path: Path) -> dict[str, str] | None:
    """Return the texts in a picture; None if it is no whole picture, to its last byte."""
    try:
        with opened(path) as image:
            image.load()
            text = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
            whole = image.format != "PNG" or path.read_bytes().endswith(_PNG_END)
    except JeatError:
        return None
    return text if whole else None


def to_uint8(images: Pixels) -> NDArray[np.uint8]:
    """Round pixels in [0, 1] to the nearest of 0..255, halves up, as `save_image` of torchvision.

    Values outside [0, 1] are clipped; uint8 input is returned as it is.
    """
    array = images if isinstance(images, np.ndarray) else images.detach().cpu().numpy()
    if array.dtype == np.uint8:
        return array
    if not np.isfinite(array).all():
        raise JeatError(
            "the images hold values that are not finite",
            "the chain that drew them diverged: lower its step size",
        )
    rounded: NDArray[np.uint8] = np.floor(np.clip(array, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return rounded


def to_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Turn one (C,H,W) uint8 array, C = 1 or 3, into a picture."""
    planes = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)


def grid(
    images: Pixels, columns: int | None = None, scale: int = 1, headings: Sequence[str] = ()
) -> Image.Image:
    """Lay images out in rows, the first at the top left.

    Args:
        images: (n,C,H,W) in [0, 1], C = 1 or 3.
        columns: Images in a row; without it the nearest to a square.
        scale: Each pixel becomes a square of this many pixels a side.
        headings: Texts above the columns.
    """
    pixels = to_uint8(images).repeat(scale, axis=2).repeat(scale, axis=3)
    count, channels, height, width = pixels.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    tall, wide = height + _LINE, width + _LINE
    shape = (channels, rows * tall + _LINE, columns * wide + _LINE)
    canvas = np.full(shape, _BACKGROUND, dtype=np.uint8)
    for index, image in enumerate(pixels):
        top = _LINE + index // columns * tall
        left = _LINE + index % columns * wide
        canvas[:, top : top + height, left : left + width] = image
    drawn = to_image(canvas)
    return _below_headings(drawn, headings, wide) if headings else drawn


def _below_headings(drawn: Image.Image, headings: Sequence[str], wide: int) -> Image.Image:
    """Return a grid whose columns are `wide` with a line of text above them."""
    # Names from a file may hold line breaks, and halves of characters.
    headings = [" ".join(text.encode(errors="replace").decode().split()) for text in headings]
    room = wide - 3 * _LINE  # which keeps neighbours apart
    for size in range(_HEADING, _SMALLEST_HEADING - 1, -1):
        font = ImageFont.load_default(size)
        if max(map(font.getlength, headings)) <= room:
            break
    height = size + 2 * _LINE
    canvas = ImageOps.expand(drawn, (0, height, 0, 0), _GREY)
    draw = ImageDraw.Draw(canvas)
    for column, text in enumerate(headings):
        while len(text) > 1 and draw.textlength(text, font) > room:
            text = text.removesuffix("\u2026")[:-1] + "\u2026"
        middle = _LINE / 2 + (column + 0.5) * wide
        draw.text((middle, height / 2), text, "white", font, anchor="mm")
    return canvas


def save_png(image: Image.Image, path: Path, text: Mapping[str, str] | None = None) -> Path:
    """Write `image` as a PNG whose text chunks hold `text`, whole or not at all."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    return write_atomic(path, lambda beside: image.save(beside, format="PNG", pnginfo=chunks))


def strip(frames: Pixels, scale: int = 1, headings: Sequence[str] = ()) -> Image.Image:
    """Lay the states (frames,n,C,H,W) of images out in rows, an image a row, the first at left."""
    states = to_uint8(frames).swapaxes(0, 1)
    return grid(states.reshape(-1, *states.shape[2:]), states.shape[1], scale, headings)


def save_animation(frames: Pixels, path: Path, scale: int, text: Mapping[str, Any]) -> Path:
    """Write the states (frames,n,C,H,W) of images as a GIF or a WebP, by the ending of `path`.

    It shows the images side by side, and rests at the last state. The file holds `text`.
    """
    pictures = [grid(state, len(state), scale) for state in to_uint8(frames)]
    times = [_FRAME_MS] * (len(pictures) - 1) + [_LAST_FRAME_MS]
    kind = path.suffix.lower().removeprefix(".").upper()
    more: dict[str, Any] = {"append_images": pictures[1:], "duration": times, "loop": 0}
    more["xmp" if kind == "WEBP" else "comment"] = json.dumps(dict(text)).encode()
    # `lossless` is an option of WebP that GIF, which always is, ignores.
    return write_atomic(
        path, lambda beside: pictures[0].save(beside, kind, save_all=True, lossless=True, **more)
    )
