"""Models of networks that are not ours: the user's own, a library's, or one that a file brings."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.models.classifier import Classifier
from ..core.models.layers import Shape
from ..core.models.wrapped import Wrapped, has_classify
from ..data.arrays import MOST_CLASSES
from ..data.facts import TENSORS, DatasetFacts, dataset_facts
from ..data.images import load_images
from ..errors import JeatError, UsageProblem
from ..runtime.digests import checksum
from ..runtime.progress import Reporter
from ..runtime.usual_state import in_usual_state
from .filling import compare, fill
from .header import FOREIGN, Meta
from .model import Model, network
from .networks import check, wrapped
from .normalisation import chosen, stated
from .program import read_program
from .settings import Foreign, per_channel
from .state_dict import StateDict

_KINDS = {"exported": "an exported program", "onnx": "an ONNX program"}


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
        dataset: Whose test images and customary radius are meant where none are given, if any.
        name: What it is called in tables and figures; by default as its class.

    Raises:
        JeatError: If the network lacks something, which is named.
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
    return _checked(placed(classifier, meta, device, path))


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


def load_unknown(
    path: Path, foreign: Foreign, found: StateDict, device: torch.device, reporter: Reporter
) -> Model:
    """Load weights, name by name, into a network of a library or of the user's own code."""
    draft = description(foreign, foreign.mean or (0.0,), foreign.std or (1.0,))
    classifier = network(draft)
    assert isinstance(classifier.net, Wrapped)
    module = classifier.net.module
    expected = module.state_dict()
    if others := [key for key, value in expected.items() if not isinstance(value, torch.Tensor)]:
        raise JeatError(
            f"`{draft.arch}` has {' and '.join(f'`{key}`' for key in others)} among its weights, "
            "which are no tensors",
            "of a file only tensors are read: set that in the code, without `get_extra_state`",
        )
    found, keys = compare(found, expected, path, reporter)
    exactly = "name the function that makes exactly the network of these weights"
    fill(module, keys, path, draft.arch, f"{exactly}, without arguments", reporter)
    pixels = chosen(path, foreign, found, reporter) or stated(path, None, None)
    meta = description(foreign, *pixels)
    whole = Classifier(classifier.net, meta.mean, meta.std)
    model = _checked(placed(whole, meta, device, path, found.accuracy))
    if has_classify(module):
        way = (
            "its method `classify`, as in JEM's code" if classifier.net.classifies else "`forward`"
        )
        reporter.say(f"the logits of `{model.name}` are those of {way}")
    return model


def load_program(path: Path, kind: str, foreign: Foreign, device: torch.device) -> Model:
    """Load a file that brings its network."""
    named = f"`{path}`, {_KINDS[kind]},"
    if foreign != Foreign(dataset=foreign.dataset, mean=foreign.mean, std=foreign.std):
        raise UsageProblem(
            f"{named} contains its network and weights",
            "leave out `--arch`, `--norm-layer`, `--activation` and `--entry`",
        )
    if foreign.dataset is None:
        raise UsageProblem(
            f"{named} does not say what its classes are",
            "describe it: `--dataset DATASET --mean R,G,B --std R,G,B`",
        )
    meta = description(replace(foreign, arch=kind), *stated(path, foreign.mean, foreign.std))
    net = Wrapped(read_program(path, kind, device), about=checksum(path))
    tensors = [each for each in net.state_dict().values() if each.is_floating_point()]
    other = {str(each.dtype).removeprefix("torch.") for each in tensors} - {"float32"}
    try:
        return _checked(placed(Classifier(net, meta.mean, meta.std), meta, device, path))
    except JeatError as problem:
        if not other:
            raise
        raise JeatError(
            f"{named} was exported in {' and '.join(sorted(other))}: {problem.message}",
            "images are given in float32: export `net.float().eval()`",
        ) from problem


def _checked(model: Model) -> Model:
    net, meta = model.classifier.net, model.meta
    assert isinstance(net, Wrapped)
    check(net, Shape(meta.shape, len(meta.classes)), model.name, model.device)
    return model


def placed(
    classifier: Classifier,
    meta: Meta,
    device: torch.device,
    path: Path,
    accuracy: float | None = None,
) -> Model:
    """Return a model of a classifier on a device, its weights frozen."""
    classifier = classifier.eval().requires_grad_(False).to(device)
    return Model(classifier, meta, None, path, accuracy)


def description(
    foreign: Foreign,
    mean: Sequence[float],
    std: Sequence[float],
    shape: tuple[int, int, int] | None = None,
    classes: Sequence[str] = (),
) -> Meta:
    """Return what the user's description says of a checkpoint."""
    assert foreign.arch is not None
    assert foreign.dataset is not None
    if shape is None:
        known = dataset_facts(foreign.dataset) or load_images(foreign.dataset, "test")
        shape, classes = known.shape, known.classes
    return Meta(
        arch=foreign.arch,
        norm_layer=foreign.norm_layer,
        activation=foreign.activation,
        dataset=foreign.dataset,
        classes=tuple(classes),
        shape=shape,
        mean=per_channel(mean, shape[0]),
        std=per_channel(std, shape[0]),
        method=FOREIGN,
        options={},
        epoch=0,
        epochs=0,
        finished=True,
        seed=0,
    )
