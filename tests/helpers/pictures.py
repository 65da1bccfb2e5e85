"""Images of a test as directories of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from jeatcli.data.images import load_images
from jeatcli.data.pictures import save_png, to_image, to_uint8


def save_images(
    images: Tensor | NDArray[Any], folder: Path, text: dict[str, str] | None = None
) -> list[Path]:
    """Write images (n,C,H,W) in [0, 1] as `000000.png` and so on."""
    return [
        save_png(to_image(pixels), folder / f"{number:06d}.png", text)
        for number, pixels in enumerate(to_uint8(images))
    ]


def paint(path: Path, colour: object, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    """Save a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def contents(zoo: Path, split: Literal["train", "test"]) -> set[bytes]:
    """Return the images of a split of a folder."""
    return {x.numpy().tobytes() for x in load_images(f"folder:{zoo}", split).x}
