"""Images that are to be drawn, batch by batch, and what they are once they are drawn."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import pgd
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Reporter
from .plan import Recipe, Trace


@dataclass(frozen=True)
class Samples:
    """Drawn images.

    Args:
        images: (n, C, H, W) in [0, 1], float32, on the CPU.
        labels: Their classes (n,).
        classes: Names of the classes of the model.
        settings: Every setting that went into them.
        seconds, device: Of the computation.
        trace: The first images on their way, (frames, m, C, H, W), and the steps of the frames.
        origin: The picture (C, H, W) that they were made of, if they were.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    settings: dict[str, Any]
    seconds: float
    device: str
    trace: tuple[Tensor, list[int]] | None = None
    origin: Tensor | None = None

    @property
    def distance(self) -> Tensor | None:
        """The l2 distance of each image from the one it was made of, (n,), or None."""
        return None if self.origin is None else pgd.l2_norm(self.images - self.origin).flatten()


@dataclass(frozen=True)
class Drawing:
    """Images that are not drawn yet.

    Args:
        recipe: How each is drawn.
        labels: Their classes (n,).
        settings: Every setting that goes into them.
    """

    recipe: Recipe
    labels: Tensor
    settings: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides image k but its number: drawings of one identity agree.

        How many images there are does not belong to it.
        """
        settings = {key: value for key, value in self.settings.items() if key != "n"}
        return settings | {"weights": self.recipe.model.fingerprint}

    def batches(
        self,
        batch_size: int,
        reporter: Reporter = SILENT,
        skip: Collection[int] = (),
        trace: Trace | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw the images in turn; yield the numbers (b,) and the images (b, C, H, W) of a batch.

        Where several processes have joined, each draws a part of a batch, all get all of it, and
        what to skip is what the first one says.

        Args:
            batch_size: Images at a time, on each device.
            reporter: Listens to the progress.
            skip: Numbers of images that are there: a batch of such alone is not drawn.
            trace: Keeps the way of the first batch.
        """
        ranks = current()
        parts = torch.split(torch.arange(len(self.labels)), batch_size * ranks.size)
        needed = ranks.from_main(
            lambda: [part for part in parts if not all(k in skip for k in part.tolist())]
        )
        done = len(self.labels) - sum(map(len, needed))
        with reporter.track("sample", len(self.labels), done=done) as bar:
            for index in needed:
                watch = trace if trace and index[0] == 0 else None
                own = ranks.share(index)
                images = self.recipe.draw(own, self.labels[own], watch) if len(own) else None
                drawn = [images] if ranks.size == 1 else ranks.collect(_on_cpu(images))
                yield index, torch.cat([each for each in drawn if each is not None])
                bar(len(index))

    def follow(self, batch_size: int) -> None:
        """Draw this process's part of what another one saves."""
        for _ in self.batches(batch_size):
            pass

    def all(self, batch_size: int = 256, reporter: Reporter = SILENT, frames: int = 0) -> Samples:
        """Draw all images at once; `frames` of the way of the first ten are kept as well."""
        began = time.perf_counter()
        trace = Trace(self.recipe.descent.steps, frames) if frames else None
        # Those ten come in one batch.
        batch_size = max(batch_size, trace.most) if trace else batch_size
        parts = [images for _, images in self.batches(batch_size, reporter, trace=trace)]
        model = self.recipe.model
        return Samples(
            torch.cat(parts).cpu(),
            self.labels,
            model.meta.classes,
            self.settings,
            time.perf_counter() - began,
            str(model.device),
            trace.gathered() if trace else None,
            None if self.recipe.origin is None else self.recipe.origin.cpu(),
        )


def _on_cpu(images: Tensor | None) -> Tensor | None:
    return None if images is None else images.cpu()
