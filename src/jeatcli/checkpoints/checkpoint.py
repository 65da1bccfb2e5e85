"""A model as a file: saved, and loaded again. Never a pickle."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.class_gaussians import ClassGaussians
from ..core.models.classifier import Classifier
from ..errors import JeatError, UsageProblem
from ..runtime import devices
from ..runtime.digests import named_digest
from ..runtime.files import write_atomic
from ..runtime.progress import SILENT, Reporter
from ..runtime.usual_state import in_usual_state
from . import runs
from .foreign import load_foreign
from .header import REWRITTEN, Damaged, Meta, NotOurs, read_header
from .model import Model, network, ready
from .settings import Foreign

# The field of the header that is of all others, and of the tensors.
DIGEST = "digest"
# Where a run on a folder keeps the fingerprints of its training images.
_FINGERPRINTS = "images.fingerprints"


def save_model(
    path: Path,
    classifier: Classifier,
    meta: Meta,
    statistics: ClassGaussians,
    trained_on: Tensor | None = None,
) -> None:
    """Write what a `Model` has as one safetensors file, atomically."""
    tensors = {f"classifier.{key}": value for key, value in classifier.state_dict().items()}
    tensors |= {
        "statistics.mean": statistics.mean.half(),
        "statistics.factor": statistics.factor.half(),
        "statistics.ridge": statistics.ridge,
    }
    if statistics.counts is not None:
        tensors["statistics.counts"] = statistics.counts
    if trained_on is not None:
        tensors[_FINGERPRINTS] = trained_on
    write_tensors(path, tensors, asdict(meta))


@in_usual_state
def load(
    run: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    foreign: Foreign | None = None,
    reporter: Reporter = SILENT,
) -> Model:
    """Load the model of a run, or a third-party checkpoint.

    Args:
        run: A run's name, a path to a run or to a file; None is the latest finished run.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        foreign: Describes a checkpoint that `jeat train` did not write.
        reporter: Is told what was assumed about such a checkpoint.

    Raises:
        JeatError: If there is no such run, or its file is damaged, would run code, or does not fit.
        UsageProblem: If the checkpoint needs a description and has none, or the reverse.

    Examples:
        >>> import torch
        >>> from jeatcli import load
        >>> model = load("pretrained", device="cpu")
        >>> model.meta.classes[5], model.meta.dataset
        ('dog', 'cifar10')
        >>> model.classifier(torch.rand(2, 3, 32, 32)).shape  # images in [0, 1] to logits
        torch.Size([2, 10])
    """
    return load_each([run], device=device, foreign=foreign, reporter=reporter)[0]


def load_each(
    chosen: Sequence[str | Path | Model | None],
    *,
    device: str | torch.device = "auto",
    foreign: Foreign | None = None,
    reporter: Reporter = SILENT,
) -> list[Model]:
    """Load several models, as `load` does; `foreign` describes every third-party one.

    A model stays as it is, but of one in training mode a copy in evaluation mode is returned.
    """
    place = devices.pick(device)
    if foreign is not None:
        Foreign.accept(foreign)
    models = []
    for each in chosen:
        if isinstance(each, Model):
            models.append(each)
            continue
        path = runs.resolve(each, reporter=reporter)
        try:
            header = read_header(path)
        except NotOurs:
            models.append(load_foreign(path, foreign, place, reporter))
        else:
            models.append(_ours(path, header, place))
    refuse_unused(foreign, zip(chosen, models, strict=True))
    return [ready(model, reporter) for model in models]


def refuse_unused(foreign: Foreign | None, models: Iterable[tuple[object, Model]]) -> None:
    """Refuse a description of a third-party checkpoint that no model needed.

    Each model comes with what it was asked for by, which may be the loaded model.
    """
    pairs = [*models]
    read = [model for given, model in pairs if not isinstance(given, Model)]
    if foreign is None or any(model.foreign for model in read):
        return
    if read:
        problem = f"`{read[0].path}` was written by `jeat train` and describes itself"
    elif pairs:
        raise UsageProblem(
            f"`{pairs[0][1].name}` is loaded already, so `foreign` would change nothing",
            "describe the file where it is loaded: `load(FILE, foreign=Foreign(...))`",
        )
    else:
        problem = "there is no third-party checkpoint to describe"
    raise UsageProblem(problem, "leave out `--arch` and what else describes such a checkpoint")


def _ours(path: Path, header: dict[str, Any], device: torch.device) -> Model:
    if "step" in header:
        raise JeatError(
            f"`{path}` is the state of a training run, not its model",
            f"name the `{runs.MODEL_FILE}` beside it",
        )
    meta = Meta.of(header)
    tensors = read_tensors(path, header)
    # Compared before anything of the size that a damaged header names is built.
    with torch.device("meta"):
        expected = {f"classifier.{k}": v for k, v in network(meta).state_dict().items()}
    statistics = _statistics(tensors, meta)
    problem = _first_misfit(tensors, expected)
    if problem or statistics is None:
        raise JeatError(
            f"`{path}` does not fit its own header: "
            f"{problem or 'its class statistics have another shape'}",
            "copy the file again, or train the run again",
        )
    classifier = network(meta)
    classifier.load_state_dict(under_prefix("classifier.", tensors))
    classifier = classifier.eval().requires_grad_(False).to(device)
    trained_on = tensors.get(_FINGERPRINTS)
    if trained_on is not None and (trained_on.ndim != 1 or trained_on.dtype != torch.int64):
        trained_on = None
    return Model(classifier, meta, statistics.to(device), path, trained_on=trained_on)


def _first_misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Say which tensor is missing, of another shape, or no number of the kind that is expected."""
    for name, like in expected.items():
        if name not in tensors:
            return f"`{name}` is missing"
        given = tensors[name]
        if given.shape != like.shape or given.is_floating_point() != like.is_floating_point():
            shape = "x".join(map(str, given.shape))
            return f"`{name}` is {shape or 'one number'} of {given.dtype}"
    others = under_prefix("classifier.", tensors).keys() - under_prefix("classifier.", expected)
    return f"`{min(others)}` is none of its names" if others else None


def _statistics(tensors: Mapping[str, Tensor], meta: Meta) -> ClassGaussians | None:
    """Return the class statistics, or None if they are of other classes or images."""
    parts = under_prefix("statistics.", tensors)
    classes = len(meta.classes)
    mean, factor, ridge = (parts.get(name) for name in ("mean", "factor", "ridge"))
    if mean is None or factor is None or ridge is None:
        return None
    fit = (
        mean.shape == (classes, *meta.shape)
        and factor.ndim == 5
        and factor.shape == (classes, factor.shape[1], *meta.shape)
        and ridge.shape == (classes,)
        and all(part.is_floating_point() for part in (mean, factor, ridge))
        and bool((ridge >= 0).all())  # a variance
    )
    counts = parts.get("counts")
    if counts is not None and (counts.shape != (classes,) or counts.dtype != torch.int64):
        counts = None
    return ClassGaussians(mean.float(), factor.float(), ridge.float(), counts) if fit else None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header with their digest as one safetensors file, atomically."""
    plain = {key: value.detach().contiguous() for key, value in tensors.items()}
    # Not an entry of its own: safetensors writes several in any order.
    about = json.dumps({**header, DIGEST: named_digest(sorted(plain.items()), header=header)})
    write_atomic(path, lambda beside: save_file(plain, beside, {"jeat": about}))


def read_tensors(path: Path, header: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the tensors of a file with this header, on the CPU.

    Raises:
        Damaged: If they or the header are not those that were written.
    """
    try:
        tensors = dict(sorted(load_file(path).items()))
    except Exception as problem:
        raise Damaged(f"cannot read `{path}`: {problem}", REWRITTEN) from problem
    about = dict(header)
    # The files of early versions have none.
    written = about.pop(DIGEST, None)
    if written is not None and written != named_digest(tensors.items(), header=about):
        raise Damaged(
            f"`{path}` is damaged: its contents have changed since it was written", REWRITTEN
        )
    return tensors


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
