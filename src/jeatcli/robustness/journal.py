"""What an attack has found so far, on disk: a killed one loses no more than the batch at work.

A directory of its own for each set of weights and settings, by their digest: `progress.json`, and
the adversarial images of each batch where they are wanted. Every file is written beside itself
and renamed, the images before the progress that counts on them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..runtime.files import write_atomic

PROGRESS = "progress.json"


class Journal:
    """The directory of one attack.

    Args:
        folder: Where it lies.
        key: The digest of what is attacked and how; progress of another key is not taken up.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / f"attack-{key}"
        self.key = key + " " + version("jeat-cli")

    def read(self) -> dict[str, Any] | None:
        """Return the progress that was written last, None if there is none of this key."""
        try:
            found = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("key") == self.key else None

    def write(self, progress: Mapping[str, Any]) -> None:
        """Replace the progress on disk."""
        text = json.dumps({"key": self.key, **progress})
        path = self.folder / PROGRESS
        write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))

    def write_images(self, part: int, places: Tensor, images: Tensor) -> None:
        """Keep the adversarial images (n, C, H, W) of these places (n,) as part number `part`."""
        tensors = {"places": places.cpu(), "images": images.cpu().contiguous()}
        write_atomic(self._part(part), lambda beside: save_file(tensors, beside))

    def read_images(self, parts: int) -> list[tuple[Tensor, Tensor]]:
        """Return places and images of the first so many parts."""
        loaded = [load_file(self._part(part)) for part in range(parts)]
        return [(each["places"], each["images"]) for each in loaded]

    def remove(self) -> None:
        """Forget it all: the attack is over, and its result written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _part(self, part: int) -> Path:
        return self.folder / f"{part:06d}.safetensors"
