"""What was found on planes through images: the panels of a contour, and their figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoints.model import Model
from ..core.threat import Threat
from .plane import Plane
from .view import Findings, identify

if TYPE_CHECKING:
    from .contour import Contour


@dataclass(frozen=True, eq=False)
class Panel:
    """One run's energies around one image.

    Args:
        model: The run.
        label: What the run is called over the panel.
        image: Index of the image among the test images.
        plane: Where the energies were taken.
        energies: At the grid's points, row b and column a, in the logits' unit.
        centre: The energy at the image itself, which an even grid does not hold.
        inside: Which points lie in the ball that is outlined.
        prediction: The class that the run gives to the image.
        confidence: Its probability.
        marks: Further images on the plane: name, a, b.
    """

    model: Model
    label: str
    image: int
    plane: Plane
    energies: NDArray[np.float64]
    centre: float
    inside: NDArray[np.bool_]
    prediction: int
    confidence: float
    marks: tuple[tuple[str, float, float], ...]

    @property
    def rise(self) -> float | None:
        """The mean inside the ball less the energy at the image, if a point is inside.

        A flat energy around the data has a small one.
        """
        ball = self.energies[self.inside]
        return float(ball.mean()) - self.centre if ball.size else None


@dataclass(frozen=True)
class Contours(Findings):
    """The energies of several runs on planes through one or more images.

    Args:
        panels: Image by image, each in the order of the runs.
        view: The settings.
        unit: Size of a distance of 1, in the [0, 1] pixel scale.
        labels: The images' classes, by name.
        ball: Norm and radius of the ball that is outlined.
    """

    panels: tuple[Panel, ...]
    view: Contour
    unit: float
    labels: tuple[str, ...]
    ball: Threat
    title = "Energy landscape"

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self.panels) // len(self.view.image)

    def shown(self, panel: Panel) -> NDArray[np.float64]:
        """Return the energies that are drawn: less the one at the image if `relative`."""
        return panel.energies - panel.centre if self.view.relative else panel.energies

    def summary(self) -> dict[str, Any]:
        """Return the settings, and figures of every panel.

        `centre` is the energy at the image; `mean`, `min`, `max` and `rise` (mean less centre)
        are over the `points_in_ball` of the grid, `plane_min` and `plane_max` over all;
        `outside_pixel_range` is the share of all pixels of the plane that are not in [0, 1].
        """
        first = self.panels[0]
        return {
            "energy": self.view.energy,
            "axes": self.view.axes,
            "unit": self.unit,
            "unit_norm": self.view.unit_norm,
            "ball": {"norm": self.ball.norm, "radius": self.ball.eps},
            "span": first.plane.span,
            "grid": first.plane.grid,
            "relative": self.view.relative,
            "clipped": self.view.clip,
            "runs": [self._figures(panel) for panel in self.panels],
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

    def _figures(self, panel: Panel) -> dict[str, Any]:
        classes = panel.model.meta.classes
        ball = panel.energies[panel.inside]
        return identify(panel.model) | {
            "image": panel.image,
            "class": self.labels[self.view.image.index(panel.image)],
            "prediction": classes[panel.prediction],
            "confidence": panel.confidence,
            "centre": panel.centre,
            "mean": float(ball.mean()) if ball.size else None,
            "min": float(ball.min()) if ball.size else None,
            "max": float(ball.max()) if ball.size else None,
            "rise": panel.rise,
            "points_in_ball": int(panel.inside.sum()),
            "outside_pixel_range": panel.plane.share_outside(),
            "plane_min": float(panel.energies.min()),
            "plane_max": float(panel.energies.max()),
            "marks": [{"name": name, "a": a, "b": b} for name, a, b in panel.marks],
        }
