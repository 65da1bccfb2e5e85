"""How far attacks are, image by image, and the journal that keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import JeatError
from ..runtime.progress import SILENT, Reporter
from .journal import Journal

UNBROKEN = -1


@dataclass
class Progress:
    """How far the attacks are.

    Args:
        correct: Per image whether it is taken for what it is: the others are not attacked.
        broken_by: Per image the number of the attack that broke it, or `UNBROKEN`.
        counts: For each attack that began: its `forward` and `backward` passes in images, gradients
            of `nan`, and `seconds`.
        done: Images that the running attack is through with.
        parts: Batches whose adversarial images are kept.
        finished: Attacks that are over.
        batch_size, bf16: Of the search, which another start might choose otherwise.
    """

    correct: list[bool]
    broken_by: list[int]
    batch_size: int
    bf16: bool
    counts: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    parts: int = 0
    finished: int = 0


class Strike(NamedTuple):
    """What an attack did to a batch, or to a process's part of it.

    Args:
        fallen: The numbers of the images that it broke.
        images: They as it moved them (n, C, H, W), on the CPU, if they are kept.
        forward, backward: Passes in images.
        nan: How many of its gradients had NaN in them.
    """

    fallen: list[int]
    images: Tensor | None = None
    forward: int = 0
    backward: int = 0
    nan: int = 0


@dataclass
class Ledger:
    """The progress, the adversarial images that are kept, and the journal of both.

    Args:
        progress: How far the attacks are.
        images: All images as attacked (n, C, H, W), on the CPU, or None if they are not kept.
        journal: Where both go, or None.
        reporter: Hears if they cannot be written.
    """

    progress: Progress
    images: Tensor | None = None
    journal: Journal | None = None
    reporter: Reporter = SILENT

    def count(self, number: int, strike: Strike) -> None:
        """Enter what the attack of that number did."""
        counts = self.progress.counts[number]
        counts["forward"] += strike.forward
        counts["backward"] += strike.backward
        counts["nan"] += strike.nan
        for place in strike.fallen:
            self.progress.broken_by[place] = number
        if self.images is None or strike.images is None or not strike.fallen:
            return
        places, images, part = torch.tensor(strike.fallen), strike.images, self.progress.parts
        self.images[places] = images
        self._keep(lambda journal: journal.write_images(part, places, images))
        self.progress.parts += 1

    def write(self) -> None:
        """Bring the journal up to date."""
        self._keep(lambda journal: journal.write({"progress": asdict(self.progress)}))

    def _keep(self, write: Callable[[Journal], None]) -> None:
        """Write into the journal, if there is one; where that fails, go on without."""
        if self.journal is None:
            return
        try:
            write(self.journal)
        except JeatError as problem:
            self.reporter.warn(f"{problem.message}; the attack cannot be resumed")
            self.journal = None
