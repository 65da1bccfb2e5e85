"""Images to be judged: a model that draws them, or the place where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import runs
from ..checkpoints.model import Model
from ..data.pictures import to_uint8
from ..data.provenance import Provenance
from ..data.stored import holds_pictures, read_images
from ..errors import JeatError, UsageProblem
from ..runtime.progress import Reporter
from ..sampling.sample import prepare

OpenModel = Callable[[str | Path], Model]


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Args:
        name: Of the run, or the path of the images.
        model: That draws them; None if they are there.
        path: Of the model or of the images.
    """

    name: str
    model: Model | None
    path: Path

    def images(
        self,
        shape: tuple[int, int, int],
        num: int | None,
        batch_size: int,
        reporter: Reporter,
        **sampling: Any,
    ) -> tuple[Tensor, Provenance]:
        """Draw the images, or read them; return uint8 (n,C,H,W) and how they came to be.

        Args:
            shape: Channels, height and width that they must have.
            num: How many; None for all that are there.
            batch_size: Images to draw at a time.
            reporter: Listens to the progress.
            sampling: Settings of `sampling.sample.prepare`.

        Raises:
            JeatError: If images cannot be read, or a setting is at fault.
        """
        if self.model is None:
            pixels, known = read_images(self.path, shape, num, reporter)
            return torch.from_numpy(pixels), known
        plan = prepare(self.model, num=num, batch_size=batch_size, reporter=reporter, **sampling)
        # Rounded batch by batch: 50,000 images take a quarter of the memory.
        parts = [to_uint8(images) for _, images in plan.batches(reporter)]
        known = Provenance(plan.identity, Counter(plan.labels.tolist()))
        return torch.cat([torch.from_numpy(part) for part in parts]), known


def find(source: str | Path | Model, open_model: OpenModel, sampling: Mapping[str, Any]) -> Source:
    """Find out what is to be judged; a run's name goes before a folder's.

    Raises:
        JeatError: If there is nothing of that name.
        UsageProblem: If images that are there are to be sampled in some way.
    """
    if isinstance(source, Model):
        return Source(source.name, source, source.path)
    path = Path(source).expanduser()
    known = str(source) in runs.names() or (path / runs.MODEL_FILE).exists()
    if path.suffix.lower() == ".npz" or (not known and holds_pictures(path)):
        return _stored(path, sampling)
    model = open_model(source)
    return Source(model.name, model, model.path)


def _stored(path: Path, sampling: Mapping[str, Any]) -> Source:
    if not path.exists():
        raise JeatError(
            f"cannot read images from `{path}`: there is no such file", "check the path"
        )
    if sampling:
        raise UsageProblem(
            f"`{path}` holds images that are drawn already, so "
            f"{', '.join(f'`{key}`' for key in sampling)} would change nothing",
            "leave the settings out, or name a run",
        )
    return Source(str(path), None, path)
