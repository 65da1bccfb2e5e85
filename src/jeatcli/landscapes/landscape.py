"""The energy around real images, as a picture and as numbers (Zhu et al. 2021, Figure 2).

What can be shown lies in `views/`, a file a kind; this is what they have in common.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .. import landscapes
from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..data.images import Images, load_images
from ..errors import UsageProblem
from ..runtime.files import write_atomic
from ..runtime.progress import SILENT, Reporter
from .view import Findings, Scene


@dataclass(frozen=True)
class Landscape:
    """What a view found, and what it looked at.

    Args:
        kind: The view, a file of `views/`.
        found: Its numbers.
        dataset: Whose test images.
        seconds, device, seed: Of the computation.
    """

    kind: str
    found: Findings
    dataset: str
    seconds: float
    device: str
    seed: int

    def summary(self) -> dict[str, Any]:
        """Return what the picture shows as numbers, ready for JSON."""
        return {
            "kind": self.kind,
            "dataset": self.dataset,
            **self.found.summary(),
            "seconds": self.seconds,
            "device": self.device,
            "seed": self.seed,
            "version": version("jeat-cli"),
        }

    def text(self) -> str:
        """Write the summary without its time and the places of the runs.

        So the same landscape is the same file, and one that is handed on tells no directories.
        """
        summary = {key: each for key, each in self.summary().items() if key != "seconds"}
        runs = [{key: run[key] for key in run if key != "run"} for run in summary["runs"]]
        return json.dumps(summary | {"runs": runs})


def energy_landscape(
    runs: Sequence[str | Path | Model],
    *,
    kind: str = "contour",
    seed: int = 0,
    batch_size: int = 512,
    data_dir: Path | str | None = None,
    device: str = "auto",
    foreign: Foreign | None = None,
    reporter: Reporter = SILENT,
    **settings: Any,
) -> Landscape:
    """Look at the energy of several runs around the test images of their data set.

    Args:
        runs: Names, paths or loaded models, all of one data set.
        kind: `contour`, `path`, `histogram` or `sharpness`.
        seed: Of everything random.
        batch_size: Images in one forward pass.
        data_dir: Where the data sets are.
        device: Where to compute.
        foreign: What the checkpoints of others among the runs are.
        reporter: Listens to the progress.
        settings: Of the kind, the fields of its class in `views/`.

    Raises:
        UsageProblem: If a setting is unknown or out of range, or the runs' data sets differ.
        JeatError: If a run cannot be loaded or its energies are not finite.
    """
    started = time.perf_counter()
    view = landscapes.make(kind, settings)
    if not runs:
        raise UsageProblem("a landscape needs at least one run")
    if batch_size < 1:
        raise UsageProblem(f"the batch size must be at least 1, not {batch_size}")
    models = tuple(load_each(runs, device=device, foreign=foreign, reporter=reporter))
    dataset = _common_dataset(models)
    images = load_images(dataset, "test", data_dir=data_dir, reporter=reporter)
    _fits(models[0], images)
    found = view.measure(Scene(models, images, seed, batch_size, data_dir, reporter))
    elapsed = time.perf_counter() - started
    return Landscape(kind, found, dataset, elapsed, str(models[0].device), seed)


def save_numbers(landscape: Landscape, path: Path | str) -> Path:
    """Write the arrays behind the picture, and `summary`, a JSON text, as an `.npz`.

    Raises:
        UsageProblem: If `path` does not end in `.npz`.
        JeatError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise UsageProblem(f"the numbers are saved as .npz, not as `{path.name}`")
    summary = np.array(landscape.text())
    arrays: dict[str, Any] = {**landscape.found.arrays(), "summary": summary}

    def write(beside: Path) -> None:
        with beside.open("wb") as handle:
            np.savez_compressed(handle, **arrays)

    return write_atomic(path, write)


def _common_dataset(models: Sequence[Model]) -> str:
    first = models[0]
    for other in models[1:]:
        if (other.meta.dataset, other.meta.shape) != (first.meta.dataset, first.meta.shape):
            raise UsageProblem(
                f"the runs were trained on different data sets: `{first.path}` on "
                f"{first.meta.dataset}, `{other.path}` on {other.meta.dataset}",
                "draw them one data set at a time",
            )
    return first.meta.dataset


def _fits(model: Model, images: Images) -> None:
    if tuple(images.shape) != tuple(model.meta.shape):
        raise UsageProblem(
            f"the images of {images.name} have the shape {tuple(images.shape)}, "
            f"but `{model.path}` was trained on {tuple(model.meta.shape)}"
        )
