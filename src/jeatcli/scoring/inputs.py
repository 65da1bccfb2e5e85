"""What is scored, in whose eyes, beside which real images: settled before anything long begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..checkpoints import runs
from ..checkpoints.checkpoint import load, refuse_unused
from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..data.images import Images, load_images
from ..errors import UsageProblem
from ..runtime.progress import Reporter
from . import inception
from .source import OpenModel, Source, find


class Comparison(NamedTuple):
    """What is compared.

    Args:
        origin: Where the images come from.
        extractor: What turns images into features: a classifier, or Inception's weights.
        reference: The real images.
    """

    origin: Source
    extractor: Model | Path
    reference: Images


def arrange(
    source: str | Path | Model | None,
    features: str | Path | Model,
    split: Literal["train", "test"],
    *,
    dataset: str | None,
    foreign: Foreign | None,
    inception_weights: Path | str | None,
    data_dir: Path | str | None,
    device: str,
    sampling: Mapping[str, Any],
    reporter: Reporter,
) -> Comparison:
    """Load what is needed and see that it fits together, by the settings of `image_scores`.

    Raises:
        JeatError: If a run, a file or the data is at fault.
        UsageProblem: If a setting is, or the images do not fit the reference.
    """
    open_model = partial(_open, device=device, reporter=reporter)
    described = _with_dataset(foreign, dataset)
    origin = find(_or_latest(source, features), partial(open_model, foreign=described), sampling)
    if origin.model is not None:
        described = _with_dataset(described, origin.model.meta.dataset)
    open_judge = partial(open_model, foreign=described)
    extractor = _extractor(features, inception_weights, open_judge, reporter)
    refuse_unused(foreign, *(m for m in (origin.model, extractor) if isinstance(m, Model)))
    against = _reference(origin, extractor, dataset, split, data_dir, reporter)
    _fits(origin, extractor, against)
    return Comparison(origin, extractor, against)


def _with_dataset(foreign: Foreign | None, dataset: str | None) -> Foreign | None:
    """Fill in the data set of a description that has none."""
    if foreign is None or foreign.dataset is not None:
        return foreign
    return replace(foreign, dataset=dataset)


def _or_latest(source: str | Path | Model | None, features: str | Path | Model) -> Any:
    """Return the source, for None the latest finished run that is not the judge."""
    if source is not None:
        return source
    if isinstance(features, Model):
        return runs.resolve(None, features.path)
    return runs.resolve(None, None if features == "inception" else runs.resolve(features))


def _open(run: str | Path, device: str, foreign: Foreign | None, reporter: Reporter) -> Model:
    """Load a model; the description is for somebody else's alone."""
    described = foreign if runs.is_foreign(runs.resolve(run)) else None
    return load(run, device=device, foreign=described, reporter=reporter)


def _extractor(
    features: str | Path | Model,
    weights: Path | str | None,
    open_model: OpenModel,
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
    origin: Source,
    extractor: Model | Path,
    dataset: str | None,
    split: Literal["train", "test"],
    data_dir: Path | str | None,
    reporter: Reporter,
) -> Images:
    model = origin.model or (extractor if isinstance(extractor, Model) else None)
    name = dataset or (model.meta.dataset if model else None)
    if name is None:
        raise UsageProblem(
            f"with what shall the images of `{origin.path}` be compared?",
            "name the data set with `--dataset`, such as `--dataset cifar10`",
        )
    if split not in ("train", "test"):
        raise UsageProblem(f"the reference is `train` or `test`, not `{split}`")
    images = load_images(name, split, data_dir=data_dir, reporter=reporter)
    return images


def _fits(origin: Source, extractor: Model | Path, against: Images) -> None:
    """Compare shapes before any image is drawn."""
    for model in (origin.model, extractor):
        if isinstance(model, Model):
            model.accepts(against, any_classes=True)
