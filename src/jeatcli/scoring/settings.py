"""The settings of `jeat score`: of images, and of a classifier itself."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ..catalogue import Catalogue, Entry
from ..checkpoints.settings import Foreign
from ..errors import UsageProblem
from ..settings import (
    Settings,
    batch_size_setting,
    data_dir_setting,
    device_setting,
    on_setting,
    setting,
)


@dataclass(frozen=True)
class MetricEntry(Entry):
    """A row of the table of scores."""

    needs: int = 0  # the images below which a line says that they are few


# Scores beside the five of torch-fidelity: functions of the features of images and reference.
METRICS = Catalogue(
    "metric",
    {
        "density-coverage": MetricEntry(
            "Density and coverage (Naeem et al. 2020), fifth neighbours",
            "jeatcli.scoring.density:density_coverage",
            needs=10_000,
        ),
        "mind": MetricEntry(
            "Monge Inception Distance (Berthet et al. 2026), 1,000 projections",
            "jeatcli.scoring.mind:mind",
            needs=5000,
        ),
        "vendi": MetricEntry(
            "Vendi score, the number of different images (Friedman and Dieng 2023)",
            "jeatcli.scoring.vendi:vendi",
            needs=5000,
        ),
        "authpct": MetricEntry(
            "Percentage of images that are no near copies (Alaa et al. 2022)",
            "jeatcli.scoring.neighbours:authpct",
            needs=1000,
        ),
    },
)


@dataclass(frozen=True)
class ExtractorEntry(Entry):
    """A row of the table of networks; its target builds one from the content of a file."""

    # The published weights and where they are.
    file: str = ""
    sha256: str = ""
    mirrors: tuple[str, ...] = ()


_HERE = "jeatcli.scoring.networks"
_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
_DINO, _CLIP = "dinov2_vitl14_pretrain.pth", "ViT-B-32.pt"
_CLIP_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"

# What `--features` knows beside runs.
EXTRACTORS = Catalogue(
    "extractor",
    {
        "inception": ExtractorEntry(
            "the 2015 Inception network",
            f"{_HERE}:inception",
            _INCEPTION,
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            # Two releases of the same file, byte for byte: torch-fidelity's and pytorch-fid's.
            (
                f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_INCEPTION}",
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
            ),
        ),
        "dinov2": ExtractorEntry(
            "DINOv2",
            f"{_HERE}:dinov2",
            _DINO,
            "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
            (f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/{_DINO}",),
        ),
        "clip": ExtractorEntry(
            "CLIP",
            f"{_HERE}:clip",
            _CLIP,
            _CLIP_SHA256,
            (f"https://openaipublic.azureedge.net/clip/models/{_CLIP_SHA256}/{_CLIP}",),
        ),
    },
)

_OOD = "AUROC of the test images against another data set, folder or .npz; repeatable"
_WHOSE = "Data set of the reference, for a FOLDER, an .npz or a third-party checkpoint"
_FEATURES = "inception, dinov2, clip, one of these with :FILE, or a RUN whose features are used"
_WEIGHTS = "File of the Inception weights, instead of downloading them"
_MANY = "all; as many as the reference has"
_CLASSIFIER = "Classifier (instead of images)"
_classifier = partial(setting, section=_CLASSIFIER)
_score = partial(setting, section="Score")
_data = partial(setting, section="Data")


@dataclass(frozen=True)
class ScoreSettings(Settings):
    """How images are scored.

    `features` is `inception`, `dinov2` or `clip`, with `:FILE` for a file of the weights, or a run
    by name, path or as a loaded model, whose penultimate features and softmax are used. `foreign`
    describes the checkpoints among source and features that `jeat train` did not write, all of one
    kind.
    """

    num: int | None = _score(None, "Images to score", flags=("-n", "--num"), shown=_MANY, low=1)
    features: object = _score("inception", _FEATURES, kind="features")
    reference: Literal["train", "test"] = _score("train", "Split of the real images")
    reference_classes: Literal["same", "all"] = _score(
        "same", "Classes of the real images: those of the images where they are known, or all"
    )
    splits: int = _score(10, "Parts over which the Inception Score is averaged", low=1)
    kid_subsets: int = _score(100, "Subsets of KID", low=1, high=1e5)
    # The unbiased estimate of a subset of one divides by zero.
    kid_subset_size: int = _score(1000, "Images in a subset", low=2)
    metric: tuple[str, ...] = _score(
        (),
        "A further score, listed below; repeatable",
        kind="metric",
        multiple=True,
        distinct=True,
    )
    seed: int | None = _score(None, "Seed of the sampling", shown="0", low=0)
    neighbours: Path | None = _score(
        None, "Write images beside the training images nearest to them (PNG)"
    )
    dataset: str | None = _data(None, _WHOSE, kind="dataset", shown="the run's")
    data_dir: Path | None = data_dir_setting()
    inception_weights: Path | None = _data(None, _WEIGHTS, kind="existing file")
    batch_size: int | None = batch_size_setting(None, "by features")
    device: str = device_setting()
    foreign: Foreign | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metric:
            METRICS.match(name)
        if self.neighbours is not None and self.reference != "train":
            raise UsageProblem(
                "the neighbours are training images, but the reference is the test images",
                "leave out `--reference test`",
            )


@dataclass(frozen=True)
class ClassifierSettings(Settings):
    """How a classifier is scored on the test images of its data set, or on those of `on`.

    Each of `ood` is a data set, of which the test images are taken, or a folder of pictures or an
    `.npz`, of the shape of the classifier's images.
    """

    num: int | None = setting(None, "Images of each set, the first ones", low=1)
    calibrated: bool = setting(True, "Compute the calibration")
    corrupted: bool = setting(False, "Compute the accuracy on corrupted images")
    ood: tuple[str, ...] = _classifier(
        (), _OOD, metavar="DATASET|FOLDER", kind="images", multiple=True, distinct=True
    )
    on: str | None = on_setting(_CLASSIFIER)
    data_dir: Path | None = data_dir_setting()
    batch_size: int | None = batch_size_setting(None, "256 up to 32x32, on a CPU 64 of 32x32")
    device: str = device_setting()
    foreign: Foreign | None = None
