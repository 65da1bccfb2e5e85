"""What is scored, by whose features, beside which real images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import runs
from ..checkpoints.checkpoint import load_each, refuse_unused
from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..core.models.wrapped import Wrapped
from ..data.facts import TENSORS
from ..data.images import Images, load_images
from ..data.pictures import to_uint8
from ..data.provenance import Provenance
from ..data.stored import holds_pictures, read_images
from ..data.tensors import Own, own_pixels
from ..errors import JeatError, UsageProblem, nearest
from ..runtime.files import expand
from ..runtime.progress import Reporter
from ..sampling.sample import prepare
from .extractors import load_extractor, named
from .features import Judge
from .settings import EXTRACTORS, ScoreSettings


@dataclass(frozen=True)
class ScoreInputs:
    """What is compared, known before any image is drawn."""

    name: str  # as `path`, of the model or of the images
    path: Path
    artist: Model | None  # the model that draws the images; None for stored images
    judge: Judge  # what turns images into features
    reference: Images  # the real images
    # The part of their data set: `train`, `test` or, of images of the caller's own, `given`.
    split: str
    own: Tensor | None = None  # the images, uint8 (n, C, H, W), where they are the caller's own


def resolve(
    source: str | Path | Model | Own | None,
    settings: ScoreSettings,
    sampling: Mapping[str, object],
    reporter: Reporter,
    real: Own | None = None,
) -> ScoreInputs:
    """Load what is needed, and check that it fits together."""
    if source is None:
        source = runs.resolve(None, _judge_path(settings.features), reporter)
    foreign = settings.foreign
    if foreign is not None and foreign.dataset is None:
        foreign = replace(foreign, dataset=settings.dataset)
    artist, own, path = _source(source, foreign, settings, reporter)
    if artist is None:
        _refuse_sampling(path, settings, sampling)
    else:
        if foreign is not None and foreign.dataset is None:
            foreign = replace(foreign, dataset=artist.meta.dataset)
        _doubt_grey(artist, settings, reporter)
    judge = _judge(settings, foreign, reporter)
    pairs = ((source, artist), (settings.features, judge))
    asked = [(given, model) for given, model in pairs if isinstance(model, Model)]
    refuse_unused(settings.foreign, asked)
    models = [model for _, model in asked]
    reference = _reference(path, models, settings, real, reporter)
    for model in models:
        model.accepts(reference, any_classes=True)
    if own is not None and own.shape[1:] != reference.shape:
        ours, theirs = ("x".join(map(str, shape)) for shape in (own.shape[1:], reference.shape))
        raise UsageProblem(f"the images are {ours}, and those of {reference.name} {theirs}")
    name = artist.name if artist else str(path)
    split = settings.reference if real is None else "given"
    return ScoreInputs(name, path, artist, judge, reference, split, own)


def _source(
    source: str | Path | Model | Own,
    foreign: Foreign | None,
    settings: ScoreSettings,
    reporter: Reporter,
) -> tuple[Model | None, Tensor | None, Path]:
    """Return the model that draws, or images of the caller's own, or neither; and their path."""
    if not isinstance(source, str | Path | Model):
        return None, _as_bytes(source), Path(TENSORS)
    if (stored := _stored(source)) is not None:
        return None, None, stored
    artist = _open(source, foreign, settings, reporter)
    return artist, None, artist.path


def _refuse_sampling(path: Path, settings: ScoreSettings, sampling: Mapping[str, object]) -> None:
    """Refuse the settings of a sampler for images that no model draws."""
    names = [*sampling, *(["seed"] if settings.seed is not None else [])]
    if names:
        raise UsageProblem(
            f"`{path}` holds images that are already drawn, so "
            f"{', '.join(f'`{name}`' for name in names)} would change nothing",
            "leave the settings out, or name a run",
        )


def _doubt_grey(artist: Model, settings: ScoreSettings, reporter: Reporter) -> None:
    """Say that the features of published networks are for photographs."""
    if artist.meta.shape[0] == 1 and named(settings.features):
        reporter.say(
            f"the features `{settings.features}` are for photographs, and say little about grey "
            "images: `--features RUN` takes those of a classifier of your own"
        )


def _reference(
    path: Path,
    models: Sequence[Model],
    settings: ScoreSettings,
    real: Own | None,
    reporter: Reporter,
) -> Images:
    """Return the real images: the caller's own, or a split of a data set."""
    if real is not None:
        if settings.dataset is not None:
            raise UsageProblem("`real` and `dataset` exclude each other")
        x = _as_bytes(real)
        return Images(TENSORS, x, torch.zeros(len(x), dtype=torch.int64), ())
    dataset = settings.dataset or (models[0].meta.dataset if models else None)
    if dataset is None:
        raise UsageProblem(
            f"no reference data set for `{path}`",
            "name it with `--dataset`, such as `--dataset cifar10`",
        )
    split, data_dir = settings.reference, settings.data_dir
    found = load_images(dataset, split, data_dir=data_dir, reporter=reporter)
    return replace(found, x=torch.from_numpy(to_uint8(found.x)))


def _as_bytes(images: Own) -> Tensor:
    return torch.from_numpy(to_uint8(own_pixels(images)[0]))


def images_of(
    inputs: ScoreInputs, settings: ScoreSettings, sampling: Mapping[str, Any], reporter: Reporter
) -> tuple[Tensor, Provenance]:
    """Draw the images, or read them; return uint8 (n,C,H,W) and how they came to be."""
    if inputs.own is not None:
        if settings.num is not None and settings.num > len(inputs.own):
            raise UsageProblem(
                f"there are not {settings.num:,} images, but {len(inputs.own):,}", "lower `num`"
            )
        return inputs.own[: settings.num], Provenance()
    if inputs.artist is None:
        pixels, origin = read_images(inputs.path, inputs.reference.shape, settings.num, reporter)
        return torch.from_numpy(pixels), origin
    plan = prepare(
        inputs.artist,
        num=settings.num or len(inputs.reference),
        seed=settings.seed or 0,
        batch_size=settings.batch_size,
        data_dir=settings.data_dir,
        reporter=reporter,
        **sampling,
    )
    # Rounded batch by batch: 50,000 images take a quarter of the memory.
    parts = [torch.from_numpy(to_uint8(images)) for _, images in plan.batches(reporter)]
    names = inputs.artist.meta.classes
    classes = Counter(names[label] for label in plan.labels.tolist())
    return torch.cat(parts), Provenance(plan.identity, classes)


def of_same_classes(reference: Images, origin: Provenance, reporter: Reporter) -> Images:
    """Return the real images of the classes of the images, if these are known and fewer.

    Of fewer images than classes that were drawn of all classes, some classes have none by chance.
    """
    kept, count = class_indices(reference, origin), len(reference.classes)
    some = bool((origin.sampling or {}).keys() & {"classes", "interpolate"})
    chosen = some or sum((origin.classes or {}).values()) >= count
    if kept is None and some:
        reporter.warn(
            f"{reference.name} does not have the classes of the images by name: they are compared "
            "with all of it"
        )
    if kept is None or len(kept) == count or not chosen:
        return reference
    index = torch.isin(reference.y.cpu(), torch.tensor(sorted(kept))).nonzero().flatten()
    reporter.say(
        f"the images are of {len(kept)} of the {count} classes: compared with "
        f"the {len(index):,} of {reference.name} in these (`--reference-classes all` for all)"
    )
    return reference.take(index)


def class_indices(reference: Images, origin: Provenance) -> set[int] | None:
    """Return which classes of the reference, by their names, the images are of; None if unknown.

    An index tells nothing: of another data set it is another class.
    """
    if not origin.classes:
        return None
    names = {name: index for index, name in enumerate(reference.classes)}
    indices = {names.get(name, -1) for name in origin.classes}
    return indices if indices <= set(range(len(names))) else None


def _judge_path(features: object) -> Path | None:
    """Return the file of the judge, which is not scored by default."""
    if isinstance(features, Model):
        return features.path
    return None if named(features) else runs.resolve(str(features))


def _stored(source: str | Path | Model) -> Path | None:
    """Return where images lie, None for a run; a run's name goes before a folder's."""
    if isinstance(source, Model):
        return None
    path = expand(source)
    if str(source) in (*runs.names(), runs.PRETRAINED.stem) or (path / runs.MODEL_FILE).exists():
        return None
    if path.suffix.lower() == ".npy":
        raise JeatError(
            f"`{path}` is a single array whose layout is unknown",
            "store it as `arr_0`, uint8 (n,H,W,C), of an `.npz`",
        )
    if path.suffix.lower() == ".npz":
        if not path.exists():
            raise JeatError(f"cannot read images from `{path}`: there is no such file")
        return path
    return path if holds_pictures(path) else None


def _open(
    source: str | Path | Model, foreign: Foreign | None, settings: ScoreSettings, reporter: Reporter
) -> Model:
    """Load a model; the description is only for files that `jeat train` did not write."""
    if isinstance(source, Model) or not runs.is_foreign(runs.resolve(source)):
        foreign = None
    (model,) = load_each([source], device=settings.device, foreign=foreign, reporter=reporter)
    model.warn_of_doubts(reporter)
    return model


def _judge(settings: ScoreSettings, foreign: Foreign | None, reporter: Reporter) -> Judge:
    """Load what turns images into features, before anything long begins."""
    features: Any = settings.features
    name, file = named(features) or ("", None)
    if settings.inception_weights is not None and (name != "inception" or file):
        raise UsageProblem(
            f"Inception weights cannot be used with the features of `{features}`",
            "leave one of the two out",
        )
    if name:
        return load_extractor(name, file or settings.inception_weights, settings.device, reporter)
    near = nearest(str(features), EXTRACTORS)
    try:
        model = _open(features, foreign, settings, reporter)
    except JeatError as problem:
        if near and isinstance(features, str) and runs.is_name(features):
            hint = f"did you mean the features `{near}`? {problem.hint or ''}".rstrip()
            raise type(problem)(problem.message, hint) from problem
        raise
    net = model.classifier.net
    if isinstance(net, Wrapped):
        taken = f"what `{net.layer}` takes" if net.layer else "its logits, for no layer gives them"
        reporter.say(f"features of `{model.name}`: {taken}")
    return model
