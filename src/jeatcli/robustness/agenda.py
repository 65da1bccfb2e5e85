"""What an attack is to do, put together and checked before anything is attacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..checkpoints.model import Model, class_index
from ..core.threat import NORMS, Threat
from ..data.facts import dataset_facts
from ..data.images import Images, load_images
from ..errors import JeatError, unknown
from ..runtime.progress import SILENT, Reporter
from .attacks.attack import Attack, resolve_attacks
from .attacks.batch import Plan
from .refusals import refuse_unfit
from .subset import Selection


@dataclass(frozen=True)
class Agenda:
    """The attacks, and the images that they are run on.

    Args:
        plan: The threat model, and the options of the attacks.
        chosen: The attacks, in turn.
        everything: The test images.
        images, places: Those that are attacked, on the device of the model, and their places.
        aim: The class to reach, if there is one.
    """

    plan: Plan
    chosen: Sequence[Attack]
    everything: Images
    images: Images
    places: Tensor
    aim: int | None


def arrange(
    model: Model,
    source: Model | None = None,
    *,
    attacks: Sequence[str] = ("pgd",),
    objective: str | None = None,
    norm: str | None = None,
    eps: float | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    restarts: int | None = None,
    queries: int | None = None,
    num: int | None = None,
    indices: Path | None = None,
    only: str | int | None = None,
    target: str | int | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Agenda:
    """Put together what `evaluate.attack` is to do with a model, as that function takes it.

    Args:
        model: Whose verdict counts.
        source: The model that the attacks see in its place.

    Raises:
        JeatError: If the data or a setting is at fault.
    """
    options = (objective, steps, step_size, restarts, queries)
    plan = Plan(_threat(model, norm, eps), *options, seed)
    chosen = resolve_attacks(attacks, plan)
    everything = load_images(model.meta.dataset, "test", data_dir=data_dir, reporter=reporter)
    _fits(model, everything)
    if source is not None:
        _see_the_same(source, model)
    classes = model.meta.classes
    aim, kind = (None if name is None else class_index(name, classes) for name in (target, only))
    selected = Selection(num, indices, kind, aim).of(everything, model.device, reporter)
    refuse_unfit(chosen, len(classes), aim is not None)
    return Agenda(plan, chosen, everything, *selected, aim)


def _threat(model: Model, norm: str | None, eps: float | None) -> Threat:
    """Return the threat model: what is given, else what the run was trained for."""
    trained = model.meta.threat
    norm = norm or trained.norm
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if eps is not None:
        return Threat(norm, eps)
    if norm == trained.norm:
        return trained
    facts = dataset_facts(model.meta.dataset)
    usual = facts.eps if facts else {"linf": 8 / 255, "l2": 0.5}
    return Threat(norm, usual[norm])


def _fits(model: Model, images: Images) -> None:
    if images.shape != model.meta.shape or len(images.classes) != len(model.meta.classes):
        raise JeatError(
            f"`{model.name}` was trained on {model.meta.shape} images of "
            f"{len(model.meta.classes)} classes, but `{images.name}` has {images.shape} of "
            f"{len(images.classes)}",
            "the data set on disk is not the one of the run",
        )
    # The classes of a folder are what its directories are called.
    if dataset_facts(images.name) is None and images.classes != model.meta.classes:
        raise JeatError(
            f"`{model.name}` was trained on the classes {', '.join(model.meta.classes)}, but "
            f"`{images.name}` has {', '.join(images.classes)}",
            "the data set on disk is not the one of the run",
        )


def _see_the_same(source: Model, model: Model) -> None:
    """Refuse examples of a model that knows other images or other classes."""
    if source.meta.shape != model.meta.shape or source.meta.classes != model.meta.classes:
        raise JeatError(
            f"`{source.name}` is of {source.meta.dataset}, `{model.name}` of "
            f"{model.meta.dataset}: they do not tell the same classes apart",
            "name a network of the same data set by `--transfer-from`",
        )
