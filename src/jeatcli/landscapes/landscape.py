"""The energy around real images, as numbers (Zhu et al. 2021, Figure 2)."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model, difference
from ..core.rng import drawing_by
from ..data.stored import write_npz
from ..data.tensors import Own, Pixels, given_images
from ..errors import UsageProblem
from ..runtime.progress import SILENT, Reporter
from ..runtime.usual_state import in_usual_state
from . import KINDS, make_settings
from .settings import LandscapeSettings
from .view import LandscapeInputs, Result


@dataclass(frozen=True)
class Landscape:
    """The result of a kind, a row of `KINDS`, on the test images of a data set."""

    kind: str
    result: Result = field(repr=False)
    dataset: str
    seconds: float
    device: str
    seed: int

    def summary(self) -> dict[str, Any]:
        """Return what the picture shows as numbers, ready for JSON."""
        about = {"kind": self.kind, "dataset": self.dataset, **self.result.summary()}
        computed = {"seconds": self.seconds, "device": self.device, "seed": self.seed}
        return about | computed | {"version": version("jeat-cli")}

    def text(self) -> str:
        """Write the summary as JSON without its time and the paths of the runs.

        So the same landscape gives the same file, and a shared file reveals no directories.
        """
        summary = {key: value for key, value in self.summary().items() if key != "seconds"}
        results = [{k: v for k, v in run.items() if k != "path"} for run in summary["results"]]
        return json.dumps(summary | {"results": results})


@in_usual_state
def energy_landscape(
    runs: str | Path | Model | Sequence[str | Path | Model],
    settings: LandscapeSettings | None = None,
    *,
    kind: str = "contour",
    images: Own | None = None,
    labels: Pixels | Sequence[int] | None = None,
    reporter: Reporter = SILENT,
    **changes: object,
) -> Landscape:
    """Measure the energy of several runs around the test images of their data set.

    Args:
        runs: One name, path or loaded model, or several of one data set.
        settings: Of one kind of landscape, such as `ContourSettings`.
        kind: Whose default settings to take where there are no `settings`: `contour`, `path`,
            `histogram` or `sharpness`.
        images, labels: As `attack` takes them, in place of the test images.
        reporter: Receives the progress.
        changes: Settings by name, such as `seed`, `batch_size`, `num`.

    Raises:
        UsageProblem: If a setting is unknown or out of range, or the runs' data sets differ.
        JeatError: If a run cannot be loaded or its energies are not finite.

    Examples:
        >>> import torch
        >>> from jeatcli import energy_landscape, wrap
        >>> from jeatcli.plots.landscape import draw
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> model = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
        >>> x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
        >>> found = energy_landscape([model], images=x, labels=y, grid=5)
        >>> found.summary()["results"][0]["image"]
        0
        >>> draw(found, "contour.png", figsize=(6, 4)).name
        'contour.png'
    """
    started = time.perf_counter()
    if settings is None:
        settings = make_settings(kind, changes)
    else:
        settings = LandscapeSettings.accept(settings).with_changes(changes)
    runs = [runs] if isinstance(runs, str | Path | Model) else runs
    if not runs:
        raise UsageProblem("a landscape needs at least one run")
    measure = KINDS.load(settings.kind)
    foreign = settings.foreign
    models = tuple(load_each(runs, device=settings.device, foreign=foreign, reporter=reporter))
    for model in models:
        model.warn_of_doubts(reporter)
    _check_dataset(models)
    own = given_images(images, labels, models[0].meta.classes, settings.on)
    if own is not None:
        models[0].accepts(own, reporter)
    around = own or models[0].test_images(settings.on, settings.data_dir, reporter)
    with drawing_by(settings.seed, models[0].device):
        result = measure(LandscapeInputs(models, around, reporter), settings)
    seconds, device = time.perf_counter() - started, str(models[0].device)
    return Landscape(settings.kind, result, around.name, seconds, device, settings.seed)


def save_numbers(landscape: Landscape, path: Path | str) -> Path:
    """Write the arrays behind the picture, and `summary`, a JSON text, as an `.npz`.

    Raises:
        UsageProblem: If `path` does not end in `.npz`.
        JeatError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise UsageProblem(f"the numbers are saved as .npz, not as `{path.name}`")
    return write_npz(path, {**landscape.result.arrays(), "summary": landscape.text()})


def _check_dataset(models: Sequence[Model]) -> None:
    first = models[0]
    for other in models[1:]:
        names = first.meta.dataset, other.meta.dataset
        differing = difference(first, other)
        if names[0] != names[1] or differing:
            differing = differing or f"`{first.name}` on {names[0]}, `{other.name}` on {names[1]}"
            raise UsageProblem(
                f"the runs were trained on different data sets: {differing}",
                "draw them one data set at a time",
            )
