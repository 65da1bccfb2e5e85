"""The tables of samplers and starts, and the settings of `jeat sample`.

`jeat score` draws by the same samplers, so `SamplerSettings` are options of both commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..catalogue import Catalogue, Entry
from ..errors import UsageProblem
from ..settings import Settings, setting

SAMPLERS = Catalogue(
    "sampler",
    {
        "sgld": Entry(
            "Langevin dynamics (Welling and Teh 2011; Grathwohl et al. 2020)",
            "jeatcli.sampling.samplers:Sgld",
        ),
        "ascent": Entry(
            "Steps of one l2 length along the gradient (Yin et al. 2026)",
            "jeatcli.sampling.samplers:Ascent",
        ),
        "pgd": Entry(
            "PGD in an l2 ball around the start, best iterate kept (Santurkar et al. 2019)",
            "jeatcli.sampling.samplers:Pgd",
        ),
    },
)
INITIALIZERS = Catalogue(
    "init",
    {
        "uniform": Entry(
            "Uniform noise (Grathwohl et al. 2020)", "jeatcli.sampling.initializers:uniform"
        ),
        "gaussian": Entry(
            "The Gaussian of the class (Santurkar et al. 2019)",
            "jeatcli.sampling.initializers:gaussian",
        ),
        "pca": Entry(
            "The leading principal components of the class (OmnAI-Lab 2024)",
            "jeatcli.sampling.initializers:pca",
        ),
        "noise": Entry("Grey with a little noise", "jeatcli.sampling.initializers:noise"),
        "buffer": Entry(
            "The replay buffer of the training, by predicted class",
            "jeatcli.sampling.initializers:buffer",
        ),
        "data": Entry("Training images of the class", "jeatcli.sampling.initializers:data"),
    },
)
OBJECTIVES = ("joint", "ce", "marginal")
PRECISIONS = ("fp32", "bf16", "auto")

_IMAGES = "Images"
_SAMPLER = "Sampler (an option that the sampler does not have is refused)"
_MACHINE = "Machine"


@dataclass(frozen=True)
class SamplerSettings(Settings):
    """How images are drawn; what is None depends on the sampler and on the model's method."""

    sampler: str | None = setting(
        None,
        "How images descend the energy",
        section=_SAMPLER,
        kind="sampler",
        metavar="SAMPLER",
        shown="by method",
    )
    objective: str | None = setting(
        None,
        "Energy to lower: joint E(x,y), ce, or marginal E(x), which knows no class",
        section=_SAMPLER,
        choices=OBJECTIVES,
        metavar="ENERGY",
        shown="by method, else joint; ce (pgd)",
    )
    init: str | None = setting(
        None,
        "Where images start",
        section=_SAMPLER,
        kind="init",
        metavar="START",
        shown="gaussian",
    )
    steps: int | None = setting(
        None, "Gradient steps", section=_SAMPLER, metavar="N", low=0, shown="100, 33, 60"
    )
    step_size: float | None = setting(
        None,
        "Factor of the gradient (sgld) or l2 length of a step, pixels in [0, 1]",
        section=_SAMPLER,
        metavar="FLOAT",
        low=0,
        shown="the run's (sgld), by image size",
    )
    noise: float | None = setting(
        None,
        "Standard deviation of the noise of a step (sgld)",
        section=_SAMPLER,
        metavar="FLOAT",
        low=0,
        shown="the run's",
    )
    temperature: float | None = setting(
        None,
        "T, in place of the noise: sqrt(2 * step size * T / (1 - momentum)) (sgld)",
        section=_SAMPLER,
        metavar="FLOAT",
        low=0,
    )
    momentum: float | None = setting(
        None,
        "Share of the last step to repeat, below 1 (sgld)",
        section=_SAMPLER,
        metavar="FLOAT",
        low=0,
        shown="0",
    )
    clip: float | None = setting(
        None,
        "Largest component of the gradient, 0 for no limit (sgld)",
        section=_SAMPLER,
        metavar="FLOAT",
        low=0,
        shown="the run's, else 1; 0 with --temperature",
    )
    eps: float | None = setting(
        None,
        "l2 radius around the start, pixels in [0, 1] (pgd)",
        section=_SAMPLER,
        metavar="FLOAT",
        low=0,
        shown="by image size",
    )
    stop: float | None = setting(
        None,
        "Stop an image once its objective is as low as this",
        section=_SAMPLER,
        metavar="ENERGY",
    )
    guidance: float | None = setting(
        None,
        "W: lower (1 + W) E(x,y) - W E(x), between E(x) at -1, E(x,y) at 0, and ce",
        section=_SAMPLER,
        metavar="W",
        low=-1,
    )
    best_of: int = setting(
        1,
        "Candidates for each image; the one of lowest objective is kept",
        section=_SAMPLER,
        metavar="K",
        low=1,
    )
    precision: str = setting(
        "fp32",
        "Of the descent: bf16 where it is faster (auto) gives other images",
        section=_MACHINE,
        choices=PRECISIONS,
    )
    compiled: bool = setting(
        False,
        "Compile the network with torch: minutes at the start, faster steps",
        section=_MACHINE,
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

    classes: tuple[str | int, ...] = setting(
        (),
        "Class, by name or index; repeatable; several are taken in turn",
        section=_IMAGES,
        flags=("--class",),
        kind="class",
        metavar="CLASS",
        multiple=True,
        shown="all",
    )
    num: int | None = setting(
        None,
        "Images to draw",
        section=_IMAGES,
        flags=("-n", "--num"),
        metavar="N",
        low=1,
        shown="eight of each of 2 to 20 classes, else 64; one of each from a picture",
    )
    seed: int = setting(0, "Seed of everything random", section=_IMAGES, metavar="N", low=0)
    interpolate: tuple[str | int, str | int] | None = setting(
        None,
        "Interpolate between two classes with shared noise",
        section=_IMAGES,
        kind="class",
        metavar="A B",
    )
    image: Path | int | None = setting(
        None,
        "Start at a picture, or at test image N: what would make it the --class",
        section=_IMAGES,
        flags=("--from",),
        kind="picture",
        metavar="IMAGE|N",
    )
    inpaint: Path | int | None = setting(
        None,
        "Draw a part of a picture, or of test image N",
        section=_IMAGES,
        kind="picture",
        metavar="IMAGE|N",
    )
    mask: Path | None = setting(
        None,
        "Picture whose light pixels are that part",
        section=_IMAGES,
        kind="existing file",
        metavar="IMAGE",
    )
    data_dir: Path | None = setting(
        None,
        "Directory of the data sets, in torchvision's layout",
        section="Data",
        kind="directory",
        metavar="DIR",
        envvar="JEAT_DATA_DIR",
    )
    batch_size: int = setting(
        256,
        "Images at once; lower it where memory runs out",
        section=_MACHINE,
        flags=("-b", "--batch-size"),
        metavar="N",
        low=1,
    )
    device: str = setting(
        "auto",
        "auto, cpu, cuda, cuda:N or mps; auto is the first there is of cuda, mps, cpu",
        section=_MACHINE,
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
