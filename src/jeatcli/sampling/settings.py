"""The tables of samplers and starts, and the settings of `jeat sample`.

`jeat score` draws by the same samplers, so `SamplerSettings` are options of both commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..catalogue import Catalogue, Entry
from ..errors import UsageProblem
from ..settings import Settings, setting

_CODE = "jeatcli.sampling."
SAMPLERS = Catalogue(
    "sampler",
    {
        "sgld": Entry(
            "Langevin dynamics (Welling and Teh 2011; Grathwohl et al. 2020)",
            f"{_CODE}samplers:Sgld",
        ),
        "ascent": Entry(
            "Steps of one l2 length along the gradient (Yin et al. 2026)", f"{_CODE}samplers:Ascent"
        ),
        "pgd": Entry(
            "PGD in an l2 ball around the start, best iterate kept (Santurkar et al. 2019)",
            f"{_CODE}samplers:Pgd",
        ),
        "das": Entry(
            "Steps at all resolutions at once, under jitter and noise (Fort and Whitaker 2025)",
            f"{_CODE}direct_ascent:DirectAscent",
        ),
    },
)
INITIALIZERS = Catalogue(
    "init",
    {
        "uniform": Entry("Uniform noise (Grathwohl et al. 2020)", f"{_CODE}initializers:uniform"),
        "gaussian": Entry(
            "The class's Gaussian (Santurkar et al. 2019)", f"{_CODE}initializers:gaussian"
        ),
        "pca": Entry(
            "The class's leading principal components (OmnAI-Lab 2024)", f"{_CODE}initializers:pca"
        ),
        "noise": Entry("Grey with a little noise", f"{_CODE}initializers:noise"),
        "buffer": Entry(
            "The training's replay buffer, by predicted class", f"{_CODE}initializers:buffer"
        ),
        "data": Entry("Training images of the class", f"{_CODE}initializers:data"),
    },
)
OBJECTIVES = ("joint", "ce", "marginal")
PRECISIONS = ("fp32", "bf16", "auto")

_image = partial(setting, section="Images")
_machine = partial(setting, section="Machine")
_sampler = partial(setting, section="Sampler (an option that the sampler does not have is refused)")


@dataclass(frozen=True)
class SamplerSettings(Settings):
    """How images are drawn; what is None depends on the sampler and on the model's method."""

    sampler: str | None = _sampler(
        None, "How images descend the energy", kind="sampler", metavar="SAMPLER", shown="by method"
    )
    objective: str | None = _sampler(
        None,
        "Energy to lower: joint E(x,y), ce, or marginal E(x), which knows no class",
        choices=OBJECTIVES,
        metavar="ENERGY",
        shown="by method, else joint; ce (pgd)",
    )
    guidance: float | None = _sampler(
        None,
        "W: lower (1 + W) E(x,y) - W E(x), from E(x) at -1 by E(x,y) at 0 toward ce",
        metavar="W",
        low=-1,
    )
    init: str | None = _sampler(
        None, "Where images start", kind="init", metavar="START", shown="gaussian; noise (das)"
    )
    steps: int | None = _sampler(None, "Gradient steps", low=0, high=1e9, shown="100, 33, 60, 60")
    step_size: float | None = _sampler(
        None,
        "Factor of the gradient (sgld) or l2 length of a step, pixels in [0, 1]",
        low=0,
        shown="the run's (sgld), by image size",
    )
    noise: float | None = _sampler(
        None,
        "Standard deviation of the noise of a step (sgld), or of what is seen (das)",
        low=0,
        shown="the run's; 0.1",
    )
    temperature: float | None = _sampler(
        None, "T, in place of the noise: sqrt(2 * step size * T / (1 - momentum)) (sgld)", low=0
    )
    momentum: float | None = _sampler(
        None, "Share of the last step to repeat, below 1 (sgld)", low=0, shown="0"
    )
    clip: float | None = _sampler(
        None,
        "Largest component of the gradient, 0 for no limit (sgld)",
        low=0,
        shown="the run's, else 1; 0 with --temperature",
    )
    eps: float | None = _sampler(
        None, "l2 radius around the start, pixels in [0, 1] (pgd)", low=0, shown="by image size"
    )
    stop: float | None = _sampler(
        None, "Stop an image once its objective is as low as this", metavar="ENERGY"
    )
    best_of: int = _sampler(
        1,
        "Candidates for each image; the one of lowest objective is kept",
        metavar="K",
        low=1,
        high=1e6,
    )
    precision: str = _machine(
        "fp32",
        "Compute precision of the network: bf16 where it is faster (auto) gives other images",
        choices=PRECISIONS,
    )
    compiled: bool = _machine(
        False,
        "Compile the network with torch: minutes at the start, faster steps",
        flags=("--compile",),
        shown="no",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler is not None:
            SAMPLERS.match(self.sampler)
        if self.init is not None:
            INITIALIZERS.match(self.init)
        if self.guidance is not None and self.objective not in (None, "joint"):
            raise UsageProblem(
                f"`guidance` is for the objective `joint`, not `{self.objective}`",
                "leave one of the two out",
            )


@dataclass(frozen=True)
class SampleSettings(SamplerSettings):
    """Everything that `jeat sample` takes but the model and the files to write."""

    classes: tuple[str | int, ...] = _image(
        (),
        "Class, by name or index; repeatable; several are taken in turn",
        flags=("--class",),
        kind="class",
        metavar="CLASS",
        multiple=True,
        shown="all",
    )
    num: int | None = _image(
        None,
        "Images to draw",
        flags=("-n", "--num"),
        low=1,
        high=1e7,
        shown="eight of each of 2 to 20 classes, else 64; one of each from a picture",
    )
    seed: int = _image(0, "Seed of everything random", low=0)
    interpolate: tuple[str | int, str | int] | None = _image(
        None, "Interpolate between two classes with shared noise", kind="class", metavar="A B"
    )
    image: Path | int | None = _image(
        None,
        "Start at a picture, or at test image N: what would make it the --class",
        flags=("--from",),
        kind="picture",
        metavar="IMAGE|N",
    )
    inpaint: Path | int | None = _image(
        None, "Draw a part of a picture, or of test image N", kind="picture", metavar="IMAGE|N"
    )
    mask: Path | None = _image(
        None, "Picture whose light pixels are that part", kind="existing file", metavar="IMAGE"
    )
    data_dir: Path | None = setting(
        None,
        "Directory of the data sets, in torchvision's layout",
        section="Data",
        kind="directory",
        metavar="DIR",
        envvar="JEAT_DATA_DIR",
    )
    batch_size: int = _machine(
        256,
        "Images at once; lower it where memory runs out",
        flags=("-b", "--batch-size"),
        low=1,
        high=1e6,
    )
    device: str = _machine(
        "auto",
        "auto, cpu, cuda, cuda:N or mps; auto is the first there is of cuda, mps, cpu",
        kind="device",
        metavar="DEVICE",
        envvar="JEAT_DEVICE",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(value is not None for value in (self.image, self.inpaint, self.interpolate)) > 1:
            raise UsageProblem(
                "images start at a picture, fill a hole in one, or lead from class to class",
                "choose one of `--from`, `--inpaint` and `--interpolate`",
            )
        if (self.inpaint is None) != (self.mask is None):
            raise UsageProblem("`--inpaint IMAGE` and `--mask MASK` need each other", "name both")
        if self.image is not None and self.init is not None:
            raise UsageProblem(
                "with `--from` the images start at that image, so `--init` would change nothing",
                "leave one of the two out",
            )
        if self.interpolate is not None and self.classes not in ((), ("all",)):
            raise UsageProblem(
                "`--interpolate` names its classes itself, so `--class` would change nothing",
                "leave one of the two out",
            )

    @property
    def edits(self) -> bool:
        """Whether images are made of a picture, or lead from class to class."""
        return any(value is not None for value in (self.image, self.inpaint, self.interpolate))
