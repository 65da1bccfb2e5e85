"""The settings of each kind of landscape."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from ..checkpoints.settings import Foreign
from ..core.options import OBJECTIVES
from ..core.threat import NORMS
from ..errors import UsageProblem
from ..settings import (
    Settings,
    batch_size_setting,
    data_dir_setting,
    device_setting,
    on_setting,
    setting,
)

AXES = ("random", "adversarial", "classes")
ENERGIES = ("joint", "marginal", "ce")
# What a distance of 1 on an axis means: the per-pixel RMS, the l2 length, the largest pixel.
UNIT_NORMS = ("rms", "l2", "linf")
# The KL divergence is least at the image, where the path begins: its gradient is zero there.
PATH_OBJECTIVES = tuple(name for name in OBJECTIVES if name != "kl")

_UNIT = "Size of a distance of 1, pixels in [0, 1] (contour, sharpness)"
_NUM = "Use the first N test images (path, histogram, sharpness)"
# Images that are measured without a number, where there are as many.
USUAL_PATHS, USUAL = 100, 200
_EACH = f"{USUAL_PATHS} (path), {USUAL} (histogram, sharpness); all if there are fewer"
_NORM = "Norm of the ball of attacks and worst rises"
_EPS = "Radius of that ball, pixels in [0, 1]"
_picture = partial(setting, section="Picture")
_plane = partial(setting, section="Plane (--kind contour)")
_other = partial(setting, section="Other kinds")
# What several kinds have is declared once.
_num = _other(None, _NUM, flags=("-n", "--num"), shown=_EACH, low=1)
_unit = partial(
    _picture, None, _UNIT, metavar="FRACTION", shown="linf eps of the data set", above=0
)
_norm = partial(_other, help=_NORM, choices=NORMS, shown="linf")
_eps = partial(_other, None, _EPS, metavar="FRACTION", shown="by data set", above=0)


@dataclass(frozen=True)
class LandscapeSettings(Settings):
    """What every kind takes."""

    kind: ClassVar[str]

    seed: int = _picture(0, "Seed of all random numbers", low=0)
    on: str | None = on_setting()
    data_dir: Path | None = data_dir_setting()
    batch_size: int | None = batch_size_setting(None, "512 up to 32x32, on a CPU 64 of 32x32")
    device: str = device_setting()
    foreign: Foreign | None = None


@dataclass(frozen=True)
class ContourSettings(LandscapeSettings):
    """E on the plane x + a d1 + b d2 through test images.

    The directions are orthogonal and of one size. The plane leaves [0, 1] on purpose unless it
    is clipped, for clipping bends it and the energy is defined there. The random directions are
    the same for every run; the adversarial axis goes toward the run's own PGD example, and the
    axes of classes toward two of its samples.
    """

    kind = "contour"

    image: tuple[int, ...] = _plane(
        (0,), "Index into the test images; repeatable, a row each", multiple=True, distinct=True
    )
    axes: str = _plane(
        "random",
        "Random directions; or one toward the PGD example; or toward samples of two classes",
        choices=AXES,
    )
    class_: tuple[str, ...] = _plane(
        (),
        "Class of a sample for --axes classes, by name or index; given twice",
        metavar="CLASS",
        multiple=True,
        shown="the image's and the next",
    )
    energy: str = _plane(
        "joint", "E(x,y), E(x), or their difference, the cross-entropy", choices=ENERGIES
    )
    span: float | None = _plane(
        None,
        "The plane reaches from -SPAN to SPAN in both directions",
        shown="4, or what holds the samples",
        above=0,
    )
    grid: int = _plane(51, "Points along each side", low=3, high=10_000)
    unit: float | None = _unit()
    unit_norm: str = _plane(
        "rms",
        "Norm in which directions have unit length: RMS over the pixels, l2, largest pixel",
        choices=UNIT_NORMS,
    )
    norm: str | None = _norm(None)
    eps: float | None = _eps()
    relative: bool = _plane(
        True,
        "Draw the energy relative to that at the image, or as it is",
        flags=("--relative/--absolute",),
        shown="relative",
    )
    scale: str = _plane(
        "shared", "One colour scale for all panels, or one for each", choices=("shared", "panel")
    )
    clip: bool = _plane(False, "Clip the plane's points to [0, 1]")
    surface: bool = _plane(False, "Draw in three dimensions")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axes != "adversarial" and (self.norm or self.eps):
            raise UsageProblem(
                "`--norm` and `--eps` are those of the PGD example", "add `--axes adversarial`"
            )
        if self.class_ and self.axes != "classes":
            raise UsageProblem("`--class` names where an axis points", "add `--axes classes`")
        if len(self.class_) not in (0, 2):
            raise UsageProblem(
                f"two classes span a plane, not {len(self.class_)}", "give `--class` twice"
            )


@dataclass(frozen=True)
class PathSettings(LandscapeSettings):
    """E(x,y), E(x), CE(x,y) and the prediction along PGD from test images, and along a chain.

    After `steps` steps of 2.5 eps / steps inside the ball the attack continues for `beyond` more of
    the same length that only [0, 1] stops. The chain is the run's sampler: SGLD on E(x,y) from
    uniform noise, y the labels of the same test images.
    """

    kind = "path"

    num: int | None = _num
    objective: str = _other(
        "ce", "Objective of the attack (path)", choices=PATH_OBJECTIVES, metavar="OBJECTIVE"
    )
    norm: str = _norm("linf")
    eps: float | None = _eps()
    steps: int = _other(20, "Steps of the attack in the ball (path)", low=1)
    beyond: int = _other(20, "Further steps that leave the ball (path)", low=0)
    chain: int = _other(100, "Steps of the chain (path)", low=1)


@dataclass(frozen=True)
class HistogramSettings(LandscapeSettings):
    """E(x) and E(x,y) of the first test images and of what can be made of them.

    The sets are the test images; PGD-20's examples on CE, untargeted and aimed at a random other
    class; the images with noise of the ball's size (random signs, or a random direction);
    uniform noise; samples as `jeat sample` draws them; and another data set. y is the image's
    label, the class that a sample was drawn for, and otherwise the predicted class.
    """

    kind = "histogram"

    num: int | None = _num
    norm: str = _norm("linf")
    eps: float | None = _eps()
    against: str | None = _other(
        None, "Another data set of the same shape (histogram)", kind="dataset"
    )


@dataclass(frozen=True)
class SharpnessSettings(LandscapeSettings):
    """Rises of E(x,y) in random directions and in the worst one, gradients and curvatures.

    Radius 1 is always among the radii, which are sorted. The worst rise is sought by PGD on
    E(x,y) in the ball.
    """

    kind = "sharpness"

    num: int | None = _num
    radius: tuple[float, ...] = _other(
        (0.25, 0.5, 1.0, 2.0, 4.0),
        "Length of random perturbations in units; repeatable (sharpness)",
        multiple=True,
        above=0,
    )
    directions: int = _other(8, "Random directions for each image (sharpness)", low=2, high=1e6)
    unit: float | None = _unit()
    norm: str = _norm("linf")
    eps: float | None = _eps()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "radius", tuple(sorted({1.0, *self.radius})))
