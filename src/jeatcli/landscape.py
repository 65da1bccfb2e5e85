"""The energy around a real image: E(x,y) on a plane through it (Zhu et al. 2021, Figure 2)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from . import checkpoint, data
from .contour import contour_figure
from .datasets import dataset_facts
from .errors import UsageProblem
from .figure import check_path, save
from .paths import write_atomic
from .plane import Panel, Plane, random_directions, survey
from .reporting import SILENT, Reporter

_FOLDER_UNIT = 8 / 255


@dataclass(frozen=True)
class Landscape:
    """E(x + a d1 + b d2, y) over a square of (a, b), for one image and several runs.

    Args:
        panels: One a run, in the order asked for.
        axis: The values of a, and of b.
        directions: d1 and d2, (2,C,H,W): orthogonal, each of per-pixel RMS `unit`.
        image: (C,H,W) in [0, 1].
        index: The image's place in the test set.
        label: Its class y.
        classes: The names of the classes.
        dataset: The data set.
        unit: Per-pixel RMS at |a| = 1, in the [0, 1] pixel scale.
        relative: Whether the picture shows the energies less the one at the image.
        outside: Share of the plane's pixel values that lie outside [0, 1].
    """

    panels: tuple[Panel, ...]
    axis: NDArray[np.float64]
    directions: NDArray[np.float32]
    image: NDArray[np.float32]
    index: int
    label: int
    classes: tuple[str, ...]
    dataset: str
    unit: float
    relative: bool
    outside: float
    seed: int
    device: str
    seconds: float

    @property
    def radius(self) -> float:
        """The l2 length of one unit on either axis, which is the ball's radius."""
        return self.unit * math.sqrt(self.image.size)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which points of the grid lie in the l2 ball of `radius`."""
        return np.hypot(self.axis[None, :], self.axis[:, None]) <= 1 + 1e-9

    def summary(self) -> dict[str, Any]:
        """Return what the picture shows as numbers, ready for JSON.

        `centre` is E(x,y) at the image; `mean`, `min`, `max` and `rise` (mean less centre) are
        over the grid's points inside the ball; `plane_min` and `plane_max` over all of them.
        """
        return {
            "dataset": self.dataset,
            "image": self.index,
            "label": self.label,
            "class": self.classes[self.label],
            "energy": "joint",
            "axes": "random",
            "unit": self.unit,
            "radius_l2": self.radius,
            "span": float(self.axis[-1]),
            "grid": len(self.axis),
            "points_in_ball": int(self.inside.sum()),
            "relative": self.relative,
            "clipped": False,
            "outside_pixel_range": self.outside,
            "runs": [self._figures(panel) for panel in self.panels],
            "seconds": self.seconds,
            "device": self.device,
            "seed": self.seed,
            "version": version("jeat-cli"),
        }

    def rise(self, panel: Panel) -> float | None:
        """Return the mean of E(x,y) inside the ball less E(x,y) at the image, if a point is inside.

        A flat energy around the data has a small one.
        """
        ball = panel.energies[self.inside]
        return float(ball.mean()) - panel.centre if ball.size else None

    def _figures(self, panel: Panel) -> dict[str, Any]:
        ball = panel.energies[self.inside]
        return {
            "run": panel.run,
            "name": panel.name,
            "method": panel.method,
            "prediction": panel.prediction,
            "predicted_class": self.classes[panel.prediction],
            "confidence": panel.confidence,
            "centre": panel.centre,
            "mean": float(ball.mean()) if ball.size else None,
            "min": float(ball.min()) if ball.size else None,
            "max": float(ball.max()) if ball.size else None,
            "rise": self.rise(panel),
            "plane_min": float(panel.energies.min()),
            "plane_max": float(panel.energies.max()),
        }


def energy_landscape(
    runs: Sequence[str | Path | checkpoint.Model],
    *,
    image: int = 0,
    span: float = 4.0,
    grid: int = 51,
    unit: float | None = None,
    seed: int = 0,
    relative: bool = False,
    batch_size: int = 512,
    data_dir: Path | str | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Landscape:
    """Evaluate E(x,y) = -f(x)[y] on the plane through a test image along two random directions.

    The directions are Gaussian, orthonormalised, and the same for every run. The plane leaves
    [0, 1] on purpose: clipping would bend it, and the energy is defined there.

    Args:
        runs: Names, paths or loaded models, all of one data set.
        image: Index into the test set.
        span: The plane is [-span, span] in both directions.
        grid: Points along each side.
        unit: Per-pixel RMS at a distance of 1; the data set's linf eps without it.
        seed: Of the directions.
        relative: Draw the energies less the one at the image.
        batch_size: Points in one forward pass.

    Raises:
        UsageProblem: If an argument is out of range, or the runs' data sets differ.
        JeatError: If a run cannot be loaded or its energies are not finite.
    """
    started = time.perf_counter()
    _check(runs, span, grid, unit, batch_size)
    models = [
        run if isinstance(run, checkpoint.Model) else checkpoint.load(run, device=device)
        for run in runs
    ]
    dataset = _common_dataset(models)
    x, label = _test_image(dataset, image, models[0], data_dir, reporter)
    unit = unit or _customary_unit(dataset)
    plane = Plane(random_directions(x, unit, seed), span, grid)
    reporter.say(
        f"the plane goes {span:g} x {unit:.4g} per-pixel RMS from the image, out of [0, 1]: "
        "its points are not clipped"
    )
    with reporter.track("energies", len(models) * grid * grid, "point") as bar:
        panels = tuple(survey(m, x, label, plane, batch_size, bar) for m in models)
    return Landscape(
        panels=panels,
        axis=plane.axis.numpy(),
        directions=plane.directions.numpy(),
        image=x.numpy(),
        index=image,
        label=label,
        classes=tuple(models[0].meta.classes),
        dataset=dataset,
        unit=unit,
        relative=relative,
        outside=plane.share_outside(x),
        seed=seed,
        device=str(models[0].device),
        seconds=time.perf_counter() - started,
    )


def save_grid(landscape: Landscape, path: Path | str) -> Path:
    """Write the energies, the axes, the directions and the summary as an `.npz`.

    Arrays: `energy` (runs, b, a), `axis`, `directions` (2,C,H,W), `image` (C,H,W), and
    `summary`, a JSON text.

    Raises:
        UsageProblem: If `path` does not end in `.npz`.
        JeatError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise UsageProblem(f"the grid is saved as .npz, not as `{path.name}`")

    def write(beside: Path) -> None:
        with beside.open("wb") as handle:
            np.savez_compressed(
                handle,
                energy=np.stack([panel.energies for panel in landscape.panels]),
                axis=landscape.axis,
                directions=landscape.directions,
                image=landscape.image,
                summary=np.array(_text(landscape)),
            )

    return write_atomic(path, write)


def draw(landscape: Landscape, path: Path | str) -> Path:
    """Draw one panel a run, on one colour scale, as PNG, SVG or PDF by the ending of `path`.

    Raises:
        UsageProblem: If the ending is another.
        JeatError: If the file cannot be written.
    """
    check_path(path)
    return save(contour_figure(landscape), Path(path), "Energy landscape", _text(landscape))


def _text(landscape: Landscape) -> str:
    """Write the summary without its time, so that the same landscape is the same file."""
    return json.dumps({k: each for k, each in landscape.summary().items() if k != "seconds"})


def _check(
    runs: Sequence[object], span: float, grid: int, unit: float | None, batch_size: int
) -> None:
    if not runs:
        raise UsageProblem("a landscape needs at least one run")
    if not (math.isfinite(span) and span > 0):
        raise UsageProblem(f"the span must be a number above 0, not {span:g}")
    if grid < 3:
        raise UsageProblem(f"the grid must have at least 3 points a side, not {grid}")
    if unit is not None and not (math.isfinite(unit) and unit > 0):
        raise UsageProblem(f"the unit must be a number above 0, not {unit:g}", "try 8/255")
    if batch_size < 1:
        raise UsageProblem(f"the batch size must be at least 1, not {batch_size}")


def _common_dataset(models: Sequence[checkpoint.Model]) -> str:
    first = models[0]
    for other in models[1:]:
        if (other.meta.dataset, other.meta.shape) != (first.meta.dataset, first.meta.shape):
            raise UsageProblem(
                f"the runs were trained on different data sets: `{first.path}` on "
                f"{first.meta.dataset}, `{other.path}` on {other.meta.dataset}",
                "draw them one data set at a time",
            )
    return first.meta.dataset


def _test_image(
    dataset: str,
    index: int,
    model: checkpoint.Model,
    data_dir: Path | str | None,
    reporter: Reporter,
) -> tuple[Tensor, int]:
    images = data.load(dataset, "test", data_dir=data_dir, reporter=reporter)
    if not 0 <= index < len(images):
        raise UsageProblem(
            f"there is no test image {index} in {dataset}",
            f"its test images are numbered 0 to {len(images) - 1}",
        )
    if tuple(images.shape) != tuple(model.meta.shape):
        raise UsageProblem(
            f"the images of {dataset} have the shape {tuple(images.shape)}, "
            f"but `{model.path}` was trained on {tuple(model.meta.shape)}"
        )
    return images.x[index].cpu().float() / 255, int(images.y[index])


def _customary_unit(dataset: str) -> float:
    facts = dataset_facts(dataset)
    return facts.eps["linf"] if facts else _FOLDER_UNIT
