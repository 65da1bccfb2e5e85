"""The quality of images: Inception Score, FID, KID, precision and recall, and their protocol."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..errors import UsageProblem
from ..runtime import devices
from ..runtime.distributed import current
from ..runtime.files import NEIGHBOURS, check_output
from ..runtime.progress import SILENT, Reporter
from . import features as features_of
from . import fidelity
from .inputs import arrange
from .neighbours import Neighbours, look_up
from .protocol import Protocol

_SAMPLE_BATCH = 256
_INCEPTION_BATCH = 64
_FEATURE_BATCH = 512
# Of precision and recall (Kynkaanniemi et al. 2019).
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Scores:
    """What `score` found.

    Args:
        run: The run's name, or the path of the images.
        inception_score, inception_score_std: Mean and spread over the splits; higher is better.
        fid: Fréchet distance between the features of the images and the reference.
        kid, kid_std: Kernel distance, mean and spread over the subsets.
        precision: Share of the images that lie among those of the reference.
        recall: Share of the reference's images that lie among the images.
        neighbours: The training images nearest to the images, if they were asked for.
        protocol: Everything that the numbers depend on, and whether they compare with others'.
        seconds, device, version: Of the computation.
        seed: Of the drawing, None for images that were there.
    """

    run: str
    inception_score: float
    inception_score_std: float
    fid: float
    kid: float
    kid_std: float
    precision: float
    recall: float
    neighbours: Neighbours | None
    protocol: dict[str, Any]
    seconds: float
    device: str
    seed: int | None
    version: str


def image_scores(
    source: str | Path | Model | None = None,
    *,
    features: str | Path | Model = "inception",
    num: int | None = None,
    reference: Literal["train", "test"] = "train",
    splits: int = 10,
    kid_subsets: int = 100,
    kid_subset_size: int = 1000,
    dataset: str | None = None,
    foreign: Foreign | None = None,
    inception_weights: Path | str | None = None,
    data_dir: Path | str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    seed: int | None = None,
    neighbours: Path | str | None = None,
    reporter: Reporter = SILENT,
    **sampling: Any,
) -> Scores:
    """Score images against a data set by torch-fidelity.

    Args:
        source: A run, which draws the images, in classes of equal size; a folder of pictures;
            or an `.npz` of improved-diffusion's layout. None is the latest finished run, other
            than that of `features`.
        features: `inception`, or a run whose penultimate features and softmax are used.
        num: Images; by default as many as the reference has, or all that are there.
        reference: The split of the data set to compare with.
        splits: Of the Inception Score.
        kid_subsets, kid_subset_size: Of the KID; fewer images make the subsets smaller.
        dataset: The reference's data set; by default the run's, or that of `features`.
        foreign: What `source` and `features` are, if `jeat train` did not write them, both of
            one kind; where it says no data set, that is `dataset`, or that of a run in `source`.
        inception_weights: A file to use in place of the published one.
        data_dir: Where the data sets are.
        batch_size: Images at a time, for drawing and for the features.
        device: Where to compute.
        seed: Of the drawing; 0 without it.
        neighbours: A PNG to write, of the first images beside the training images that are
            nearest to them in the features.
        reporter: Listens to the progress.
        sampling: Of `SamplerSettings`: `sampler`, `objective`, `init`, `steps`,
            `step_size`, `best_of` and the sampler's own.

    Raises:
        JeatError: If a run, a file or the data is at fault.
        UsageProblem: If a setting is, or the images do not fit the reference.
    """
    began = time.perf_counter()
    _check(num, splits, kid_subsets, kid_subset_size, batch_size)
    if neighbours is not None:
        _check_neighbours(Path(neighbours), reference)
    sampling |= {"seed": seed}
    given = {key: value for key, value in sampling.items() if value is not None}
    origin, extractor, against = arrange(
        source,
        features,
        reference,
        dataset=dataset,
        foreign=foreign,
        inception_weights=inception_weights,
        data_dir=data_dir,
        device=device,
        sampling=given,
        reporter=reporter,
    )
    _enough(len(against), f"{against.name} {reference}")
    if origin.model is not None:
        num = num or len(against)
        given = {"seed": 0, **given, "data_dir": data_dir}
    drawing_batch = batch_size or _SAMPLE_BATCH
    images, known = origin.images(against.shape, num, drawing_batch, reporter, **given)
    _enough(len(images), origin.name)
    settings = _settings(len(images), len(against), splits, kid_subsets, kid_subset_size, reporter)
    protocol = Protocol(known, extractor, against, reference, len(images), settings)
    place = extractor.device if isinstance(extractor, Model) else devices.pick(device)
    size = batch_size or (_FEATURE_BATCH if isinstance(extractor, Model) else _INCEPTION_BATCH)
    ours = features_of.extract(images, extractor, size, place, reporter)
    theirs = features_of.of_reference(against, reference, extractor, size, place, reporter)
    ranks = current()
    figures = ranks.from_main(lambda: fidelity.compute(ours, theirs, **settings))
    near = None
    if neighbours is not None:
        picture = Path(neighbours)
        near = ranks.from_main(
            lambda: look_up(images, ours.values, against, theirs.values, picture)
        )
    return Scores(
        run=origin.name,
        **asdict(figures),
        neighbours=near,
        protocol=protocol.describe(),
        seconds=time.perf_counter() - began,
        device=str(place),
        seed=given.get("seed"),
        version=version("jeat-cli"),
    )


def _settings(
    num: int, references: int, splits: int, subsets: int, subset_size: int, reporter: Reporter
) -> dict[str, int]:
    """Return the settings of the scores as so few images allow them."""
    size = min(subset_size, num, references)
    if size < subset_size:
        reporter.say(
            f"KID over subsets of {size:,} images, not {subset_size:,}: more are not there"
        )
    return {
        "splits": min(splits, num),
        "kid_subsets": subsets,
        "kid_subset_size": size,
        "neighbours": min(_NEIGHBOURS, num - 1, references - 1),
    }


def _check_neighbours(path: Path, reference: str) -> None:
    check_output(path, NEIGHBOURS, "--neighbours")
    if reference != "train":
        raise UsageProblem(
            "the neighbours are training images, and the reference is the test images",
            "leave out `--reference test`",
        )


def _check(num: int | None, *positive: int | None) -> None:
    names = ("splits", "kid_subsets", "kid_subset_size", "batch_size")
    for name, value in zip(names, positive, strict=True):
        # The unbiased estimate of a subset of one divides by zero.
        least = 2 if name == "kid_subset_size" else 1
        if value is not None and value < least:
            raise UsageProblem(f"{name} must be at least {least}, not {value}")
    if num is not None:
        _enough(num, "the call")


def _enough(num: int, name: str) -> None:
    if num < 2:
        raise UsageProblem(
            f"a score needs at least 2 images, and `{name}` gives {num}", "choose a larger `-n`"
        )
