"""Every setting of a training run: its default, bounds, help and option, declared once.

The defaults here are the lowest layer: `resolve` lays those of the method, the network and the
data set over them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..acceleration.ways import Wish, compile_setting, kernel_setting
from ..catalogue import Catalogue, Entry
from ..core.models import ACTIVATIONS, NORM_LAYERS
from ..data.facts import AUGMENTATIONS
from ..errors import UsageProblem
from ..runtime.words import counted
from ..settings import Settings, data_dir_setting, device_setting, setting

OPTIMIZERS = Catalogue(
    "optimizer",
    {
        "sgd": Entry("SGD with Nesterov momentum", "jeatcli.training.optimizers:sgd"),
        "heavy-ball": Entry("SGD with plain momentum", "jeatcli.training.optimizers:heavy_ball"),
        "adamw": Entry("AdamW", "jeatcli.training.optimizers:adamw"),
    },
)
SCHEDULES = Catalogue(
    "schedule",
    {
        "one-cycle": Entry("linear, to zero", "jeatcli.training.schedules:one_cycle"),
        "cosine": Entry("half a cosine, to zero", "jeatcli.training.schedules:cosine"),
        "multi-step": Entry("in steps, at the milestones", "jeatcli.training.schedules:multi_step"),
        "constant": Entry("constant", "jeatcli.training.schedules:constant"),
    },
)


@dataclass(frozen=True)
class Tracker(Entry):
    """A row of `TRACKERS`; `package` is what has to be installed."""

    package: str = ""


_TRACKERS = "jeatcli.training.trackers"
TRACKERS = Catalogue(
    "tracker",
    {
        "tensorboard": Tracker("TensorBoard", f"{_TRACKERS}:tensorboard", "tensorboard"),
        "wandb": Tracker("Weights & Biases", f"{_TRACKERS}:wandb", "wandb"),
        "trackio": Tracker("Trackio, by default local", f"{_TRACKERS}:trackio", "trackio"),
    },
)
PRECISIONS = ("auto", "fp32", "bf16")

# The headings of the help.
METHOD, MODEL, DATA = "Method", "Model", "Data"
OPTIMISATION, MACHINE, OUTPUT = "Optimisation", "Machine", "Output"
_method, _model, _data, _optimise, _machine, _output = (
    partial(setting, section=heading)
    for heading in (METHOD, MODEL, DATA, OPTIMISATION, MACHINE, OUTPUT)
)
_every = partial(_output, low=0, high=1e6, metavar="EPOCHS")


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Every setting of a training run; `options` holds the method's own.

    A field that is left out here has one default for all runs. `resolve`, which `train` calls on a
    dictionary, takes what suits the method, the network and the data set instead.

    Raises:
        UsageProblem: If a value is out of bounds, or two do not go together.

    Examples:
        >>> from jeatcli.training.resolve import resolve
        >>> config = resolve({"method": "at", "dataset": "digits", "epochs": 3})
        >>> config.arch, config.options["attack_steps"]
        ('small', 5)
    """

    method: str = _method("jeat", "Training objective; listed below", kind="method")
    dataset: str = _data("cifar10", "Training data; listed below", kind="dataset")
    init_from: str = _model(
        "",
        "Start from the weights of this network; not a resume: all else starts afresh",
        kind="run",
        shown="random weights",
    )
    arch: str = _model("small", "Network; listed below", kind="arch", shown="by data set")
    norm_layer: str = _model(
        "batch",
        "Normalisation: batch, group or none; use none with SGLD, which keeps images independent",
        choices=NORM_LAYERS,
        metavar="LAYER",
        shown="by method",
    )
    activation: str = _model(
        "relu", "Nonlinearity; use silu with SGLD", choices=ACTIVATIONS, shown="by method"
    )
    augment: str = _data(
        "none",
        "Augmentation: none, crop (shifts by up to an eighth), flip (mirrors) or crop+flip",
        choices=AUGMENTATIONS,
        metavar="AUGMENT",
        shown="crop+flip for CIFAR, else none",
    )
    extra: str = _data(
        "",
        "Further training images: an .npz with `image`, uint8 (n,H,W,C), and `label`",
        metavar="FILE.npz",
        shown="none",
    )
    extra_share: float = _data(
        0.0,
        "Share of each batch that comes from --extra",
        low=0,
        high=1,
        metavar="SHARE",
        shown="0.7",
    )
    epochs: int = _optimise(
        100, "Passes over the training images", low=1, high=1e6, shown="by data set"
    )
    max_steps: int = _optimise(0, "Stop after N steps (0: no limit)", low=0, high=1e12)
    batch_size: int = _optimise(
        128, "Images per step", flags=("-b", "--batch-size"), low=1, high=1e6, shown="by method"
    )
    optimizer: str = _optimise(
        "sgd",
        "Optimiser: sgd (Nesterov momentum), heavy-ball (plain momentum) or adamw",
        choices=OPTIMIZERS,
        metavar="OPTIMIZER",
        shown="by method",
    )
    lr: float = _optimise(0.1, "Peak learning rate", above=0, high=1e3, shown="by method")
    schedule: str = _optimise(
        "one-cycle",
        "Learning-rate schedule: one-cycle, cosine, multi-step or constant",
        choices=SCHEDULES,
        metavar="SCHEDULE",
    )
    milestones: tuple[float, ...] = _optimise(
        (0.5, 0.75),
        "Fractions of the run at which multi-step decays the learning rate",
        metavar="SHARES",
        shown="0.5,0.75",
    )
    lr_decay: float = _optimise(0.1, "Factor of each decay of multi-step", low=0, high=1)
    warmup: float = _optimise(
        0.1,
        "Fraction of the run over which the learning rate rises from zero",
        low=0,
        high=1,
        metavar="SHARE",
    )
    weight_decay: float = _optimise(5e-4, "Weight decay", low=0, high=1e3, shown="by method")
    decay_norms: bool = _optimise(
        False,
        "Decay biases and normalisation layers too",
        flags=("--decay-norms/--no-decay-norms",),
        shown="no",
    )
    momentum: float = _optimise(
        0.9, "Momentum of SGD, or the first beta of AdamW", low=0, high=0.9999
    )
    grad_clip: float = _optimise(
        0.0, "Maximum gradient norm (0: no limit)", low=0, shown="by method"
    )
    ema: float = _optimise(
        0.999,
        "Decay of the moving average of the weights, which is saved (0: no average)",
        low=0,
        high=0.999999,
        shown="by architecture",
    )
    precision: str = _machine(
        "auto",
        "Compute precision of the network; energies and losses stay in fp32",
        choices=PRECISIONS,
    )
    compile: bool | None = compile_setting()
    kernel: str = kernel_setting()
    seed: int = _optimise(0, "Seed of all random numbers", low=0)
    limit: int = _data(0, "Train on the first N images only (0: all)", low=0, high=1e12)
    val_split: int = _data(
        0,
        "Training images held out, to keep the weights that are most robust on them",
        low=0,
        high=1e12,
        shown="by data set",
    )
    sample_every: int = _every(5, "Epochs between grids of samples (0: none)")
    eval_every: int = _every(5, "Epochs between evaluations (0: none)")
    save_every: int = _output(
        300,
        "Seconds between saves of the state within an epoch",
        low=1,
        high=1e6,
        metavar="SECONDS",
    )
    track: tuple[str, ...] = _output(
        (),
        "Log each epoch to tensorboard, wandb or trackio too",
        kind="tracker",
        multiple=True,
        distinct=True,
        metavar="SERVICE",
    )
    retries: int = _optimise(
        3, "How many times a diverged run returns to its last good state", low=0, high=100
    )
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        Wish(self.kernel, self.compile).check()
        if not all(0 < low < high < 1 for low, high in pairwise((1e-9, *self.milestones))):
            raise UsageProblem(
                f"milestones must increase from 0 to 1, not {', '.join(map(str, self.milestones))}",
                "give fractions of the run, such as `--milestones 0.5,0.75`",
            )
        if bool(self.extra) != bool(self.extra_share):
            raise UsageProblem(
                "`--extra` and an `--extra-share` above 0 go together",
                "name a file and a share of each batch, or neither",
            )
        buffer = self.options.get("buffer_size", self.batch_size)
        if buffer < self.batch_size:
            raise UsageProblem(
                f"a replay buffer of {counted(buffer, 'image')} is too small for batches of "
                f"{self.batch_size}",
                "raise `--buffer-size` or lower `--batch-size`",
            )


@dataclass(frozen=True)
class TrainCall(Settings):
    """What belongs to a call of `jeat train` and not to its run."""

    out: str | None = _output(
        None,
        "The run: a name, or a path with a slash",
        flags=("-o", "--out"),
        metavar="RUN",
        shown="DATASET-METHOD-ARCH",
    )
    budget: float | None = _optimise(
        None, "Train as many epochs as fit into this time: 90s, 30m, 1.5h or 2d", kind="time"
    )
    force: bool = _output(False, "Start over; an old run is kept as NAME~1")
    dry_run: bool = _output(False, "Print the resolved settings as TOML and exit")
    data_dir: Path | None = data_dir_setting()
    device: str = device_setting()
    profile: bool = _machine(
        False, "Profile a few steps: print a table, and write a trace into the run"
    )
