"""The energy on a plane through an image (Zhu et al. 2021, Figure 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.model import Model, class_index
from ..core.threat import Threat, fraction
from ..errors import UsageProblem
from ..runtime.progress import Bar
from ..sampling import sample
from . import view
from .plane import Plane, ball_of_unit, orthonormal, random_directions, scaled
from .settings import ContourSettings
from .view import LandscapeInputs, RunInfo

Marks = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, eq=False)
class Panel:
    """One run's energies around one image."""

    run: RunInfo
    image: int  # index among the test images
    label: str  # its class by name
    plane: Plane  # where the energies were taken
    energies: NDArray[np.float64]  # at the grid's points, row b and column a, in the logits' unit
    centre: float  # the energy at the image itself, which an even grid does not hold
    inside: NDArray[np.bool_]  # which points lie in the ball that is outlined
    prediction: str  # the class that the run gives to the image
    confidence: float  # its probability
    marks: Marks  # further images on the plane: name, a, b

    @property
    def rise(self) -> float | None:
        """The mean in the ball less the energy at the image: small where the energy is flat.

        None if the ball holds no point of the grid but the image, if that.
        """
        ball = self.energies[self.inside]
        return float(ball.mean()) - self.centre if ball.size > 1 else None

    def summary(self) -> dict[str, Any]:
        """Return the panel's numbers; those of an empty ball are None."""
        ball = self.energies[self.inside]
        found = [ball.mean(), ball.min(), ball.max()] if ball.size else []
        return self.run.describe() | {
            "image": self.image,
            "class": self.label,
            "prediction": self.prediction,
            "confidence": self.confidence,
            "centre": self.centre,
            **dict(zip_longest(("mean", "min", "max"), map(float, found))),
            "rise": self.rise,
            "points_in_ball": int(self.inside.sum()),
            "outside_pixel_range": self.plane.share_outside(),
            "plane_min": float(self.energies.min()),
            "plane_max": float(self.energies.max()),
            "marks": [{"name": name, "a": a, "b": b} for name, a, b in self.marks],
        }


@dataclass(frozen=True)
class ContourResult:
    """The energies of several runs on planes through one or more images."""

    panels: tuple[Panel, ...]  # image by image, each in the order of the runs
    settings: ContourSettings
    unit: float  # size of a distance of 1, in the [0, 1] pixel scale
    ball: Threat  # that is outlined
    title = "Energy landscape"

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self.panels) // len(self.settings.image)

    def shown(self, panel: Panel) -> NDArray[np.float64]:
        """Return the energies that are drawn: less the one at the image if `relative`."""
        return panel.energies - panel.centre if self.settings.relative else panel.energies

    def summary(self) -> dict[str, Any]:
        """Return the settings, and figures of every panel.

        `centre` is the energy at the image; `mean`, `min`, `max` and `rise` (mean less centre)
        are over the `points_in_ball` of the grid, `plane_min` and `plane_max` over all;
        `outside_pixel_range` is the share of all pixels of the plane that are not in [0, 1].
        """
        return {
            "energy": self.settings.energy,
            "axes": self.settings.axes,
            "unit": self.unit,
            "unit_norm": self.settings.unit_norm,
            "ball": {"norm": self.ball.norm, "radius": self.ball.eps},
            "span": self.panels[0].plane.span,
            "grid": self.settings.grid,
            "relative": self.settings.relative,
            "clipped": self.settings.clip,
            "results": [panel.summary() for panel in self.panels],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return energy (panels,b,a), axis, directions (panels,2,C,H,W), image (panels,C,H,W)."""
        planes = [panel.plane for panel in self.panels]
        return {
            "energy": np.stack([panel.energies for panel in self.panels]),
            "axis": planes[0].axis.numpy(),
            "directions": np.stack([plane.directions.cpu().numpy() for plane in planes]),
            "image": np.stack([plane.x.cpu().numpy() for plane in planes]),
        }


@dataclass(frozen=True)
class Cut:
    """The directions of one run's plane through image `index`, (C, H, W), and its marks."""

    model: Model
    run: RunInfo
    index: int
    x: Tensor
    y: int
    directions: Tensor
    marks: Marks


def measure_contour(inputs: LandscapeInputs, settings: ContourSettings) -> ContourResult:
    """Evaluate the energy on a plane for each image and run."""
    unit = settings.unit or inputs.eps["linf"]
    runs = view.describe_models(inputs.models)
    cuts = [
        _cut(inputs, settings, model, run, index, unit)
        for index in settings.image
        for model, run in zip(inputs.models, runs, strict=True)
    ]
    # Every mark is on the plane.
    distances = [max(abs(a), abs(b)) for cut in cuts for _, a, b in cut.marks]
    span = settings.span or max([4.0, *(math.ceil(1.15 * distance) for distance in distances)])
    inputs.reporter.say(_extent(settings, unit, span))
    ball = Threat(*ball_of_unit(unit, settings.unit_norm, cuts[0].x.numel()))
    names = inputs.images.classes
    with inputs.reporter.track("energies", len(cuts) * settings.grid**2, "point") as bar:
        panels = tuple(_panel(cut, settings, span, ball, names, bar) for cut in cuts)
    return ContourResult(panels, settings, unit, ball)


def _cut(
    inputs: LandscapeInputs,
    settings: ContourSettings,
    model: Model,
    run: RunInfo,
    index: int,
    unit: float,
) -> Cut:
    """Find the plane's directions, and the coordinates of the images that it goes through."""
    x, y = inputs.image(index)
    targets = _targets(inputs, settings, model, x, y, index)
    offsets = torch.stack([image - x for image in targets.values()]) if targets else x[:0]
    random = random_directions(x, settings.seed)
    # In float64 on the CPU, for Apple's devices have none.
    basis = orthonormal(torch.cat([offsets.cpu().double().view(-1, *x.shape), random])[:2])
    if not basis.isfinite().all():
        raise UsageProblem(
            f"`{model.name}` has no such plane through image {index}: {' and '.join(targets)} "
            "and the image lie on one line",
            "choose another image, or `--axes random`",
        )
    directions = scaled(basis, unit, settings.unit_norm).to(x.device)
    marks = tuple((name, *_coordinates(image - x, directions)) for name, image in targets.items())
    return Cut(model, run, index, x, y, directions, marks)


def _targets(
    inputs: LandscapeInputs, settings: ContourSettings, model: Model, x: Tensor, y: int, index: int
) -> dict[str, Tensor]:
    """Return the images by name that the axes go toward; random axes go toward none."""
    if settings.axes == "random":
        return {}
    if settings.axes == "adversarial":
        threat = inputs.threat(settings.norm or "linf", settings.eps)
        rng = view.image_rng(torch.tensor([index]), settings.seed)
        label = torch.tensor([y], device=x.device)
        return {"PGD": view.attack(model, x[None], label, threat, rng)[0]}
    classes = model.meta.classes
    chosen = [class_index(name, classes) for name in settings.class_]
    if len(set(chosen)) == 1:
        raise UsageProblem(
            f"both axes would point toward `{classes[chosen[0]]}`", "choose two classes"
        )
    chosen = chosen or [y, (y + 1) % len(classes)]
    samples = sample.draw(
        model,
        torch.tensor(chosen),
        settings.seed,
        data_dir=settings.data_dir,
        reporter=inputs.reporter,
    )
    return {classes[k]: image for k, image in zip(chosen, samples, strict=True)}


def _extent(settings: ContourSettings, unit: float, span: float) -> str:
    size = {"rms": "per-pixel RMS", "l2": "in l2", "linf": "in linf"}[settings.unit_norm]
    extent = f"the plane reaches {span:g} x {fraction(unit)} {size} from the image"
    if settings.clip:
        return f"{extent}; its points are clipped to [0, 1]"
    return f"{extent} and leaves [0, 1] (`--clip` keeps it inside)"


def _panel(
    cut: Cut, settings: ContourSettings, span: float, ball: Threat, names: Sequence[str], bar: Bar
) -> Panel:
    plane = Plane(cut.x, cut.directions, span, settings.grid, settings.clip)
    classifier = cut.model.classifier
    energies = plane.evaluate(
        classifier, settings.energy, cut.y, view.at_once(settings, cut.x), bar
    )
    cause = "the plane goes too far: try a smaller `--span`"
    with torch.inference_mode():
        logits = classifier(cut.x[None])
        centre = view.energy_of(
            settings.energy, logits, torch.tensor([cut.y], device=logits.device)
        )
    return Panel(
        run=cut.run,
        image=cut.index,
        label=names[cut.y],
        plane=plane,
        energies=view.require_finite(cut.run, energies, "on this plane", cause),
        centre=float(centre),
        inside=plane.inside(ball.norm, ball.eps),
        prediction=cut.model.meta.classes[int(logits.argmax())],
        confidence=float(logits.softmax(1).max()),
        marks=cut.marks,
    )


def _coordinates(offset: Tensor, directions: Tensor) -> tuple[float, float]:
    """Return (a, b) of an offset (C,H,W) in the plane of orthogonal directions (2,C,H,W)."""
    flat = directions.flatten(1).cpu().double()
    a, b = (flat @ offset.flatten().cpu().double()) / flat.square().sum(1)
    return float(a), float(b)
