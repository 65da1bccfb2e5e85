"""The energy on a plane through an image (Zhu et al. 2021, Figure 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints.model import Model, class_index
from ..core.threat import Threat
from ..errors import UsageProblem
from ..runtime.progress import Bar
from ..sampling import initializers, sample
from .contours import Contours, Panel
from .plane import UNIT_NORMS, Plane, ball_of_unit, orthonormal, random_directions, scaled
from .view import (
    ENERGIES,
    Scene,
    View,
    attacked,
    check_norm,
    energy_of,
    finite,
    labels_of,
    one_of,
    positive,
    rng_of,
)

AXES = ("random", "adversarial", "classes")


@dataclass(frozen=True)
class Contour(View):
    """E on the plane x + a d1 + b d2 through test images.

    The directions are orthogonal and of one size. The plane leaves [0, 1] on purpose unless it
    is clipped, for clipping bends it and the energy is defined there.

    Args:
        image: Indices among the test images, a row each.
        axes: `random`, Gaussian and the same for every run; `adversarial`, the first toward the
            run's PGD example; `classes`, toward samples of the run of two classes.
        class_: The two classes, by name or index; the image's own and the one after it without.
        energy: `joint` E(x,y), `marginal` E(x) or `ce`.
        span: The plane is [-span, span] in both directions; 4, or what holds the samples.
        grid: Points along each side.
        unit: Size of a distance of 1, in the [0, 1] pixel scale; the customary linf eps without.
        unit_norm: What of a direction has that size: its per-pixel `rms`, its `l2` length or its
            largest pixel (`linf`).
        norm, eps: The ball of the PGD example.
        relative: Draw the energies less the one at the image.
        clip: Bring the points back into [0, 1].
        surface: Draw in three dimensions.
    """

    image: tuple[int, ...] = (0,)
    axes: str = "random"
    class_: tuple[str, ...] = ()
    energy: str = "joint"
    span: float | None = None
    grid: int = 51
    unit: float | None = None
    unit_norm: str = "rms"
    norm: str | None = None
    eps: float | None = None
    relative: bool = False
    clip: bool = False
    surface: bool = False

    def __post_init__(self) -> None:
        one_of("axes", self.axes, AXES)
        one_of("energy", self.energy, ENERGIES)
        one_of("unit norm", self.unit_norm, UNIT_NORMS)
        check_norm(self.norm or "linf")
        sizes = {"span": self.span, "unit": self.unit, "eps": self.eps}
        positive(**{name: size for name, size in sizes.items() if size is not None})
        if self.grid < 3:
            raise UsageProblem(f"the grid must have at least 3 points a side, not {self.grid}")
        if self.axes != "adversarial" and (self.norm or self.eps):
            raise UsageProblem(
                "`--norm` and `--eps` are those of the PGD example", "add `--axes adversarial`"
            )
        if self.class_ and self.axes != "classes":
            raise UsageProblem("`--class` names where an axis goes", "add `--axes classes`")
        if len(self.class_) not in (0, 2):
            raise UsageProblem(f"two classes span a plane, not {len(self.class_)}")

    def measure(self, scene: Scene) -> Contours:
        unit = self.unit or scene.eps["linf"]
        cuts = [
            self._cut(scene, model, label, index, unit)
            for index in self.image
            for model, label in zip(scene.models, labels_of(scene.models), strict=True)
        ]
        span = self.span or self._reach(cuts)
        scene.reporter.say(self._tell(unit, span))
        with scene.reporter.track("energies", len(cuts) * self.grid**2, "point") as bar:
            panels = tuple(self._panel(cut, span, unit, scene.batch_size, bar) for cut in cuts)
        labels = tuple(scene.images.classes[cut.y] for cut in cuts[:: len(scene.models)])
        ball = Threat(*ball_of_unit(unit, self.unit_norm, cuts[0].x.numel()))
        return Contours(panels, self, unit, labels, ball)

    def _cut(self, scene: Scene, model: Model, label: str, index: int, unit: float) -> Cut:
        """Find the plane's directions, and where on it the images lie that it goes through."""
        x, y = scene.image(index)
        toward = self._toward(scene, model, x, y, index)
        found = torch.stack([image - x for image in toward.values()]) if toward else x[:0]
        drawn = random_directions(x, scene.seed)
        # In float64 on the CPU, for Apple's devices have none.
        basis = orthonormal(torch.cat([found.cpu().double().view(-1, *x.shape), drawn])[:2])
        if not basis.isfinite().all():
            raise UsageProblem(
                f"`{model.name}` has no such plane through image {index}: {' and '.join(toward)} "
                "and the image lie on one line",
                "choose another image, or `--axes random`",
            )
        directions = scaled(basis, unit, self.unit_norm).to(x.device)
        places = {name: _coordinates(image - x, directions) for name, image in toward.items()}
        marks = tuple((name, *place) for name, place in places.items())
        return Cut(model, label, index, x, y, directions, marks)

    def _toward(
        self, scene: Scene, model: Model, x: Tensor, y: int, index: int
    ) -> dict[str, Tensor]:
        """Return the images by name that the axes go toward; random axes go toward none."""
        if self.axes == "random":
            return {}
        if self.axes == "adversarial":
            threat = scene.threat(self.norm or "linf", self.eps)
            rng = rng_of(torch.tensor([index]), scene.seed)
            label = torch.tensor([y], device=x.device)
            return {"PGD": attacked(model, x[None], label, threat, rng)[0]}
        classes = model.meta.classes
        chosen = [class_index(name, classes) for name in self.class_]
        if len(set(chosen)) == 1:
            raise UsageProblem(
                f"both axes would go toward `{classes[chosen[0]]}`", "name two classes"
            )
        chosen = chosen or [y, (y + 1) % len(classes)]
        model = initializers.with_statistics(model, scene.data_dir, scene.reporter)
        drawn = sample.draw(model, torch.tensor(chosen), scene.seed)
        return {classes[k]: image for k, image in zip(chosen, drawn, strict=True)}

    def _reach(self, cuts: Sequence[Cut]) -> float:
        """Return a span that holds every mark, at least 4."""
        far = [max(abs(a), abs(b)) for cut in cuts for _, a, b in cut.marks]
        return max([4.0, *(math.ceil(1.15 * each) for each in far)])

    def _tell(self, unit: float, span: float) -> str:
        size = {"rms": "per-pixel RMS", "l2": "in l2", "linf": "in linf"}[self.unit_norm]
        reach = f"the plane goes {span:g} x {unit:.4g} {size} from the image"
        if self.clip:
            return f"{reach}; its points are clipped to [0, 1]"
        return f"{reach}, out of [0, 1]: its points are not clipped"

    def _panel(self, cut: Cut, span: float, unit: float, batch_size: int, bar: Bar) -> Panel:
        plane = Plane(cut.x, cut.directions, span, self.grid, self.clip)
        energies = plane.evaluate(cut.model.classifier, self.energy, cut.y, batch_size, bar)
        with torch.inference_mode():
            logits = cut.model.classifier(cut.x[None])
            centre = energy_of(self.energy, logits, torch.tensor([cut.y], device=logits.device))
        return Panel(
            model=cut.model,
            label=cut.label,
            image=cut.index,
            plane=plane,
            energies=finite(
                cut.model,
                energies,
                "on this plane",
                "the plane goes too far: try a smaller `--span`",
            ),
            centre=float(centre),
            inside=plane.inside(*ball_of_unit(unit, self.unit_norm, cut.x.numel())),
            prediction=int(logits.argmax()),
            confidence=float(logits.softmax(1).max()),
            marks=cut.marks,
        )


@dataclass(frozen=True)
class Cut:
    """Where one run's landscape is cut through one image."""

    model: Model
    label: str
    index: int
    x: Tensor
    y: int
    directions: Tensor
    marks: tuple[tuple[str, float, float], ...]


def _coordinates(offset: Tensor, directions: Tensor) -> tuple[float, float]:
    """Return (a, b) of an offset (C,H,W) in the plane of orthogonal directions (2,C,H,W)."""
    flat = directions.flatten(1).cpu().double()
    a, b = (flat @ offset.flatten().cpu().double()) / flat.square().sum(1)
    return float(a), float(b)
