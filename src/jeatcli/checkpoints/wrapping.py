"""A module of the user's own as a model: what the caller says of it, read and checked."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.models.classifier import Classifier
from ..data.arrays import MOST_CLASSES
from ..data.facts import TENSORS, DatasetFacts, dataset_facts
from ..errors import JeatError, UsageProblem
from ..runtime.usual_state import in_usual_state
from .arbitrary import checked, description, placed
from .model import Model
from .networks import wrapped
from .normalisation import stated
from .settings import Foreign


@in_usual_state
def wrap(
    net: nn.Module,
    *,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    classes: int | Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
    dataset: str | None = None,
    name: str | None = None,
) -> Model:
    """Return a network of your own as a model that every function here takes.

    Its copy in evaluation mode is checked: it must take batches of any size and have a gradient
    with respect to the images.

    Args:
        net: Maps normalised images (n, C, H, W) to logits (n, K).
        mean, std: The normalisation of pixels in [0, 1], by channel or one for all; 0 and 1 where
            the network does it itself.
        classes: Their number, or their names in the order of the logits; by default those of the
            data set.
        shape: Channels, height and width of the images; by default those of the data set, or
            3x32x32.
        dataset: The data set whose test images and customary radius are used where none are given.
        name: Its name in tables and figures; by default that of its class.

    Raises:
        JeatError: If the network lacks something; the message says what.
        UsageProblem: If the description does not say enough.

    Examples:
        >>> import torch
        >>> from jeatcli import wrap
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
        >>> model = wrap(net, classes=["cat", "dog"], shape=(1, 8, 8), mean=0.5, std=0.5)
        >>> model.classifier(torch.rand(3, 1, 8, 8)).shape
        torch.Size([3, 2])
    """
    for what, text in (("dataset", dataset), ("name", name)):
        if not isinstance(text, str | None):
            raise UsageProblem(f"`{what}` cannot be {text!r}", "give a text")
    facts = None if dataset is None else dataset_facts(dataset)
    size = _size(shape, facts)
    names = _class_names(classes, facts)
    name = name or type(net).__name__
    path = Path(name.replace("/", "_"))
    # Checks the normalisation, too.
    foreign = Foreign(name, dataset or TENSORS, _listed(mean), _listed(std))
    meta = description(foreign, *stated(path, foreign.mean, foreign.std), size, names)
    classifier = Classifier(wrapped(_copied(net, name)), meta.mean, meta.std)
    weight = next(net.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    return checked(placed(classifier, meta, device, path))


def _plain(value: object) -> object:
    """Return what an array, a tensor or a number of a library holds."""
    return value.tolist() if hasattr(value, "tolist") else value


def _listed(values: float | Sequence[float]) -> tuple[float, ...]:
    plain: Any = _plain(values)
    return tuple(plain) if isinstance(plain, list | tuple) else (plain,)


def _size(shape: Sequence[int] | None, facts: DatasetFacts | None) -> tuple[int, int, int]:
    """Return channels, height and width of the images."""
    if shape is None:
        return facts.shape if facts else (3, 32, 32)
    listed = _plain(shape)
    if not isinstance(listed, list | tuple) or len(listed) != 3 or not all(map(_is_count, listed)):
        raise UsageProblem(
            f"`shape` cannot be {shape!r}", "give channels, height and width, such as (3, 32, 32)"
        )
    channels, height, width = map(int, listed)
    if facts and facts.shape != (channels, height, width):
        raise UsageProblem(
            f"the images of the data set are {'x'.join(map(str, facts.shape))}",
            "leave out `shape` or `dataset`",
        )
    return channels, height, width


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _class_names(
    classes: int | Sequence[str] | None, facts: DatasetFacts | None
) -> tuple[str, ...]:
    """Return the names of the classes in the order of the logits."""
    listed: Any = _plain(classes)
    if facts is not None and listed in (None, len(facts.classes)):
        return facts.classes
    if listed is None:
        raise UsageProblem("the number of classes is missing", "give `classes` or `dataset`")
    if _is_count(listed) and listed <= MOST_CLASSES:
        listed = range(listed)
    names = tuple(map(str, listed)) if isinstance(listed, list | tuple | range) else ()
    if len(set(names)) < max(2, len(names)) or not all(map(str.strip, names)):
        raise UsageProblem(
            f"`classes` cannot be {classes!r}",
            f"give the number of the logits, 2 to {MOST_CLASSES:,}, or a list of different names",
        )
    if facts is not None and names != facts.classes:
        raise UsageProblem(
            f"the classes of the data set are {', '.join(facts.classes[:10])}",
            "leave out `classes`, and let the logits be in this order",
        )
    return names


def _copied(net: nn.Module, name: str) -> nn.Module:
    if not isinstance(net, nn.Module):
        raise UsageProblem(
            f"`wrap` takes a torch.nn.Module, not {getattr(net, '__name__', type(net).__name__)}",
            "call the class of a network, and put a function into the `forward` of a module",
        )
    # What a forward pass has left, such as a pruned weight or what a hook has kept, is a part of a
    # graph.
    left = [part for module in net.modules() for part in _inside(vars(module))]
    copies = {id(part): part.detach().clone() for part in left if not part.is_leaf}
    try:
        with torch.no_grad():  # else a copy of TorchScript is a part of a graph
            return copy.deepcopy(net, copies)
    except Exception as problem:
        first = str(problem).strip().partition("\n")[0][:200]
        raise JeatError(
            f"`{name}` cannot be copied: {first}",
            "`copy.deepcopy(net)` must work: keep no locks, files and tensors of a graph in its "
            "attributes",
        ) from problem


def _inside(value: object, depth: int = 3) -> Iterator[torch.Tensor]:
    """Yield the tensors of an attribute, in containers too."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple) and depth:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _inside(part, depth - 1)
