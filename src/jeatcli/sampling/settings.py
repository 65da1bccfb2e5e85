"""The tables of samplers and starts, and the settings of `jeat sample`.

`jeat score` draws by the same samplers, so `SamplerSettings` are options of both commands.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..acceleration.ways import Wish, compile_setting, kernel_setting
from ..catalogue import Catalogue, Entry
from ..errors import UsageProblem
from ..settings import Settings, batch_size_setting, data_dir_setting, device_setting, setting


def _row(summary: str, code: str) -> Entry:
    return Entry(summary, f"jeatcli.sampling.{code}")


SAMPLERS = Catalogue(
    "sampler",
    {
        "sgld": _row(
            "Langevin dynamics (Welling and Teh 2011; Grathwohl et al. 2020)", "samplers:Sgld"
        ),
        "ascent": _row(
            "Steps of fixed l2 length along the gradient (Yin et al. 2026)", "samplers:Ascent"
        ),
        "pgd": _row(
            "PGD in an l2 ball around the start, best iterate kept (Santurkar et al. 2019)",
            "samplers:Pgd",
        ),
        "das": _row(
            "Steps at all resolutions at once, under jitter and noise (Fort and Whitaker 2025)",
            "direct_ascent:DirectAscent",
        ),
    },
)
_START = "initializers:"
INITIALIZERS = Catalogue(
    "init",
    {
        "uniform": _row("Uniform noise (Grathwohl et al. 2020)", f"{_START}uniform"),
        "gaussian": _row("The class's Gaussian (Santurkar et al. 2019)", f"{_START}gaussian"),
        "pca": _row("The class's leading principal components (OmnAI-Lab 2024)", f"{_START}pca"),
        "noise": _row("Grey with a little noise", f"{_START}noise"),
        "buffer": _row("The replay buffer of training, by predicted class", f"{_START}buffer"),
        "data": _row("Training images of the class", f"{_START}data"),
    },
)
OBJECTIVES = ("joint", "ce", "marginal")
PRECISIONS = ("fp32", "bf16", "auto")
# What is written, and how the name of the file or directory ends.
ENDINGS = {"grid": ".png", "png": "", "npz": ".npz"}

_SECTION = "Sampler (an option that the sampler does not have is refused)"
_PRECISION = (
    "Compute precision of the network: auto takes bf16 where faster, which gives other images"
)
_FROM = "Start at a picture, or at test image N: what would turn it into --class"
_ONE = "leave one of the two out"
_IMAGES = "eight of each of 2 to 20 classes, else 64; one of each from a picture"
_image = partial(setting, None, section="Images")
_sampler = partial(setting, None, section=_SECTION)
_output = partial(setting, None)


@dataclass(frozen=True)
class SamplerSettings(Settings):
    """How images are drawn; what is None depends on the sampler and on the model's method."""

    sampler: str | None = _sampler(
        "How images descend the energy", kind="sampler", shown="by method"
    )
    objective: str | None = _sampler(
        "Energy to minimise: joint E(x,y), ce, or marginal E(x), which ignores the class",
        choices=OBJECTIVES,
        metavar="ENERGY",
        shown="by method and sampler",
    )
    guidance: float | None = _sampler(
        "Descend (1 + W) E(x,y) - W E(x): E(x) at -1, E(x,y) at 0, toward ce above",
        metavar="W",
        low=-1,
    )
    init: str | None = _sampler("Where images start", kind="init", shown="gaussian; noise (das)")
    steps: int | None = _sampler(
        "Gradient steps", low=0, high=1e9, shown="100 (sgld), 33 (ascent), 60 (pgd, das)"
    )
    step_size: float | None = _sampler(
        "Factor of the gradient (sgld) or l2 length of a step, pixels in [0, 1]",
        low=0,
        shown="the run's (sgld), by image size",
    )
    noise: float | None = _sampler(
        "Standard deviation of the noise of a step (sgld), or of the network's input (das)",
        low=0,
        shown="the run's; 0.1",
    )
    temperature: float | None = _sampler(
        "T, in place of the noise: sqrt(2 * step size * T / (1 - momentum)) (sgld)", low=0
    )
    momentum: float | None = _sampler(
        "Fraction of the last step to repeat, below 1 (sgld)", low=0, shown="0"
    )
    clip: float | None = _sampler(
        "Largest component of the gradient, 0 for no limit (sgld)",
        low=0,
        shown="the run's, else 1; 0 with --temperature",
    )
    eps: float | None = _sampler(
        "l2 radius around the start, pixels in [0, 1] (pgd)", low=0, shown="by image size"
    )
    stop: float | None = _sampler(
        "Stop an image once its objective is as low as this", metavar="ENERGY"
    )
    best_of: int = setting(
        1,
        "Candidates for each image; the one with the lowest objective is kept",
        section=_SECTION,
        metavar="K",
        low=1,
        high=1e6,
    )
    precision: str = setting("fp32", _PRECISION, section="Machine", choices=PRECISIONS)
    compiled: bool | None = compile_setting()
    kernel: str = kernel_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        Wish(self.kernel, self.compiled).check()
        if self.sampler is not None:
            SAMPLERS.match(self.sampler)
        if self.init is not None:
            INITIALIZERS.match(self.init)
        if self.guidance is not None and self.objective not in (None, "joint"):
            raise UsageProblem(
                f"`guidance` is for the objective `joint`, not `{self.objective}`", _ONE
            )


@dataclass(frozen=True)
class SampleSettings(SamplerSettings):
    """Everything that `jeat sample` takes but the model and the files to write."""

    classes: tuple[str | int, ...] = setting(
        (),
        "Class, by name or index; repeatable; several are taken in turn",
        section="Images",
        flags=("--class",),
        kind="class",
        multiple=True,
        shown="all",
    )
    num: int | None = _image(
        "Images to draw", flags=("-n", "--num"), low=1, high=1e7, shown=_IMAGES
    )
    seed: int = setting(0, "Seed of all random numbers", section="Images", low=0)
    interpolate: tuple[str | int, str | int] | None = _image(
        "Interpolate between two classes with shared noise", kind="class", metavar="A B"
    )
    image: Path | int | None = _image(_FROM, flags=("--from",), kind="picture")
    inpaint: Path | int | None = _image(
        "Draw a part of a picture, or of test image N", kind="picture"
    )
    mask: Path | None = _image(
        "Picture whose light pixels are that part", kind="existing file", metavar="IMAGE"
    )
    data_dir: Path | None = data_dir_setting()
    batch_size: int | None = batch_size_setting(
        None, "256 up to 32x32, on a CPU 64 of 32x32", high=1e6
    )
    device: str = device_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.edits > 1:
            raise UsageProblem(
                "images start at a picture, fill a hole in one, or lead from class to class",
                "choose one of `--from`, `--inpaint` and `--interpolate`",
            )
        if (self.inpaint is None) != (self.mask is None):
            raise UsageProblem("`--inpaint IMAGE` and `--mask MASK` need each other", "name both")
        if self.image is not None and self.init is not None:
            raise UsageProblem(
                "with `--from` the images start at that image, so `--init` would change nothing",
                _ONE,
            )
        if self.interpolate is not None and self.classes not in ((), ("all",)):
            raise UsageProblem(
                "`--interpolate` names its classes itself, so `--class` would change nothing", _ONE
            )

    @property
    def edits(self) -> int:
        """In how many ways images are made of a picture, or lead from class to class: 0 or 1."""
        return sum(value is not None for value in (self.image, self.inpaint, self.interpolate))


@dataclass(frozen=True)
class SampleOutput(Settings):
    """What `jeat sample` writes, and how a grid looks."""

    layout: str | None = _output(
        "One grid, a directory of PNGs, or an .npz of arrays",
        flags=("--format",),
        choices=tuple(ENDINGS),
        shown="by the ending of -o, else grid",
    )
    out: Path | None = _output(
        "File to write, or directory",
        flags=("-o", "--out"),
        kind="path",
        shown="samples/ of the run",
    )
    columns: int | None = _output(
        "Images in a row of a grid", low=1, high=1000, shown="one, or several, of each class"
    )
    scale: int | None = _output(
        "Enlargement of each pixel in a grid", low=1, high=1000, shown="to 64 pixels per image"
    )
    headings: bool = setting(
        True, "Write classes above a grid's columns, and steps above a strip's", shown="headings"
    )
    trace: Path | None = _output(
        "Draw the first ten images along their descent: a strip (.png) or animation (.gif, .webp)"
    )
    preview: bool = setting(False, "Show the grid in the terminal, if there is one")

    def __post_init__(self) -> None:
        super().__post_init__()
        flags = {name: getattr(self, name) for name in ("scale", "columns", "trace", "preview")}
        for name, given in {**flags, "no-headings": not self.headings}.items():
            if given and self.format != "grid":
                raise UsageProblem(
                    f"`--{name}` goes with a grid, not `--format {self.format}`", _ONE
                )

    @property
    def format(self) -> str:
        """A row of `ENDINGS`: the one that was asked for, or what the file's ending says."""
        archive = self.out is not None and self.out.suffix.lower() == ".npz"
        return self.layout or ("npz" if archive else "grid")
