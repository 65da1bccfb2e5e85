"""The quality of images: Inception Score, FID and KID, and the protocol that gives them meaning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from . import collection, data, devices, fidelity, inception, runs
from .checkpoint import Model, load, refuse_unused
from .errors import JeatError, UsageProblem
from .foreign import Foreign
from .generate import sample
from .protocol import Protocol
from .render import to_uint8
from .reporting import SILENT, Reporter

_SAMPLE_BATCH = 256
_INCEPTION_BATCH = 64
_FEATURE_BATCH = 512
_Open = Callable[[str | Path], Model]


@dataclass(frozen=True)
class Scores:
    """What `score` found.

    Args:
        run: The run's name, or the path of the images.
        inception_score, inception_score_std: Mean and spread over the splits; higher is better.
        fid: Fréchet distance between the features of the images and the reference.
        kid, kid_std: Kernel distance, mean and spread over the subsets.
        protocol: Everything that the numbers depend on, and whether they compare with others'.
        seconds, device, seed, version: Of the computation.
    """

    run: str
    inception_score: float
    inception_score_std: float
    fid: float
    kid: float
    kid_std: float
    protocol: dict[str, Any]
    seconds: float
    device: str
    seed: int
    version: str


@dataclass(frozen=True)
class _Source:
    """Images to be judged: a model that draws them, or the place where they lie."""

    name: str
    model: Model | None
    path: Path


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
    seed: int = 0,
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
        foreign: What `source` and `features` are, if `jeat train` did not write them; their
            data set is `dataset`, where none is said here.
        inception_weights: A file to use in place of the published one.
        data_dir: Where the data sets are.
        batch_size: Images at a time, for drawing and for the features.
        device: Where to compute.
        seed: Of the drawing.
        reporter: Listens to the progress.
        sampling: Settings of `generate.sample`: `sampler`, `objective`, `init`, `steps`,
            `step_size`, `noise`, `eps`.

    Raises:
        JeatError: If a run, a file or the data is at fault.
        UsageProblem: If a setting is, or the images do not fit the reference.
    """
    began = time.perf_counter()
    _check(num, splits, kid_subsets, kid_subset_size, batch_size)
    given = {key: value for key, value in sampling.items() if value is not None}
    if foreign is not None and foreign.dataset is None:
        foreign = replace(foreign, dataset=dataset)
    open_model = partial(_open, device=device, foreign=foreign, reporter=reporter)
    origin = None if source is None else _source(source, open_model, given)
    extractor = _extractor(features, inception_weights, open_model, reporter)
    if origin is None:
        judge = extractor.path if isinstance(extractor, Model) else None
        origin = _source(runs.resolve(None, judge), open_model, given)
    refuse_unused(foreign, *(m for m in (origin.model, extractor) if isinstance(m, Model)))
    against = _reference(origin, extractor, dataset, reference, data_dir, reporter)
    _fits(origin, extractor, against)
    images, drawn = _images(origin, num, against, seed, batch_size, data_dir, reporter, given)
    _enough(len(images), origin.name)
    place = extractor.device if isinstance(extractor, Model) else devices.pick(device)
    settings = {
        "splits": min(splits, len(images)),
        "kid_subsets": kid_subsets,
        "kid_subset_size": min(kid_subset_size, len(images), len(against)),
    }
    default_batch = _FEATURE_BATCH if isinstance(extractor, Model) else _INCEPTION_BATCH
    if (size := settings["kid_subset_size"]) < kid_subset_size:
        reporter.say(
            f"KID over subsets of {size:,} images, not {kid_subset_size:,}: more are not there"
        )
    protocol = Protocol(origin.model, extractor, against, reference, len(images), settings)
    figures = fidelity.compute(
        images,
        against.x,
        extractor,
        **settings,
        batch_size=batch_size or default_batch,
        device=place,
        reporter=reporter,
    )
    return Scores(
        run=origin.name,
        **asdict(figures),
        protocol=protocol.describe() | {"sampling": drawn},
        seconds=time.perf_counter() - began,
        device=str(place),
        seed=seed,
        version=version("jeat-cli"),
    )


def _check(num: int | None, *positive: int | None) -> None:
    names = ("splits", "kid_subsets", "kid_subset_size", "batch_size")
    for name, value in zip(names, positive, strict=True):
        if value is not None and value < 1:
            raise UsageProblem(f"{name} must be at least 1, not {value}")
    if num is not None:
        _enough(num, "the call")


def _enough(num: int, name: str) -> None:
    if num < 2:
        raise UsageProblem(
            f"a score needs at least 2 images, and `{name}` gives {num}", "choose a larger `-n`"
        )


def _open(run: str | Path, device: str, foreign: Foreign | None, reporter: Reporter) -> Model:
    """Load a model; the description is for somebody else's alone."""
    described = foreign if runs.is_foreign(runs.resolve(run)) else None
    return load(run, device=device, foreign=described, reporter=reporter)


def _source(source: str | Path | Model, open_model: _Open, sampling: dict[str, Any]) -> _Source:
    """Find out what is to be judged; a run's name goes before a folder's."""
    if isinstance(source, Model):
        return _Source(source.name, source, source.path)
    path = Path(source).expanduser()
    known = str(source) in runs.names() or (path / runs.MODEL_FILE).exists()
    if path.suffix.lower() == ".npz" or (not known and collection.holds_pictures(path)):
        return _stored(path, sampling)
    model = open_model(source)
    return _Source(model.name, model, model.path)


def _stored(path: Path, sampling: dict[str, Any]) -> _Source:
    if not path.exists():
        raise JeatError(
            f"cannot read images from `{path}`: there is no such file", "check the path"
        )
    if sampling:
        raise UsageProblem(
            f"`{path}` holds images that are drawn already, so "
            f"{', '.join(f'`{key}`' for key in sampling)} would change nothing",
            "leave the settings out, or name a run",
        )
    return _Source(str(path), None, path)


def _extractor(
    features: str | Path | Model,
    weights: Path | str | None,
    open_model: _Open,
    reporter: Reporter,
) -> Model | Path:
    """Get hold of what turns images into features, before anything long begins."""
    if features == "inception":
        return inception.weights(weights, reporter)
    model = features if isinstance(features, Model) else open_model(features)
    if weights is not None:
        raise UsageProblem(
            f"Inception weights are of no use with the features of `{model.name}`",
            "leave one of the two out",
        )
    return model


def _reference(
    origin: _Source,
    extractor: Model | Path,
    dataset: str | None,
    split: Literal["train", "test"],
    data_dir: Path | str | None,
    reporter: Reporter,
) -> data.Images:
    model = origin.model or (extractor if isinstance(extractor, Model) else None)
    name = dataset or (model.meta.dataset if model else None)
    if name is None:
        raise UsageProblem(
            f"with what shall the images of `{origin.path}` be compared?",
            "name the data set with `--dataset`, such as `--dataset cifar10`",
        )
    if split not in ("train", "test"):
        raise UsageProblem(f"the reference is `train` or `test`, not `{split}`")
    images = data.load(name, split, data_dir=data_dir, reporter=reporter)
    _enough(len(images), f"{name} {split}")
    return images


def _fits(origin: _Source, extractor: Model | Path, against: data.Images) -> None:
    """Compare shapes before any image is drawn."""
    for model in (origin.model, extractor):
        if isinstance(model, Model) and tuple(model.meta.shape) != against.shape:
            ours, theirs = ("x".join(map(str, s)) for s in (model.meta.shape, against.shape))
            raise UsageProblem(
                f"`{model.name}` works on {ours} images, but those of {against.name} are {theirs}",
                "choose runs of one data set",
            )


def _images(
    origin: _Source,
    num: int | None,
    against: data.Images,
    seed: int,
    batch_size: int | None,
    data_dir: Path | str | None,
    reporter: Reporter,
    sampling: dict[str, Any],
) -> tuple[Tensor, dict[str, Any] | None]:
    """Draw the images, or read them; return uint8 (n,C,H,W) and how they were drawn."""
    if origin.model is None:
        return collection.read(origin.path, against.shape, num, reporter), None
    drawn = sample(
        origin.model,
        num=num or len(against),
        seed=seed,
        batch_size=batch_size or _SAMPLE_BATCH,
        data_dir=data_dir,
        reporter=reporter,
        **sampling,
    )
    return torch.from_numpy(to_uint8(drawn.images)), drawn.settings
