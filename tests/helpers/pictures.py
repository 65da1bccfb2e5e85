"""Images of a test as a directory of PNGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from jeatcli.data.pictures import save_png, to_image, to_uint8


def save_images(
    images: Tensor | NDArray[Any], folder: Path, text: dict[str, str] | None = None
) -> list[Path]:
    """Write images (n,C,H,W) in [0, 1] as `000000.png` and so on."""
    return [
        save_png(to_image(pixels), folder / f"{number:06d}.png", text)
        for number, pixels in enumerate(to_uint8(images))
    ]
