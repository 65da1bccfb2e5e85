"""Models of networks that are not ours: the user's own, a library's, or one that a file brings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..core.models.classifier import Classifier
from ..core.models.layers import Shape
from ..core.models.wrapped import Wrapped
from ..data.facts import TENSORS, dataset_facts
from ..data.images import load_images
from ..errors import JeatError, UsageProblem
from ..runtime.digests import checksum
from ..runtime.usual_state import in_usual_state
from .header import FOREIGN, Meta
from .matching import KeyMatch, match
from .model import Model, network
from .networks import check, wrapped
from .program import read_program
from .settings import Foreign, per_channel
from .state_dict import StateDict, check_kinds

_KINDS = {"exported": "an exported program", "onnx": "an ONNX program"}


@in_usual_state
def wrap(
    net: nn.Module,
    *,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    classes: int | Sequence[str] | None = None,
    shape: tuple[int, int, int] = (3, 32, 32),
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
        classes: Their number or their names; those of the data set if there is one.
        shape: Channels, height and width of the images; those of the data set if there is one.
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
    facts = None if dataset is None else dataset_facts(dataset)
    if facts is not None:
        shape = facts.shape
    names = _class_names(classes, dataset)
    values = [(each,) if isinstance(each, int | float) else tuple(each) for each in (mean, std)]
    name = name or type(net).__name__
    # Checks the normalisation, too.
    foreign = Foreign(arch=name, dataset=dataset or TENSORS, mean=values[0], std=values[1])
    meta = description(foreign, values[0], values[1], shape, names)
    classifier = Classifier(wrapped(_copied(net, name)), meta.mean, meta.std)
    weight = next(net.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    return _checked(placed(classifier, meta, device, Path(name)))


def _class_names(classes: int | Sequence[str] | None, dataset: str | None) -> tuple[str, ...]:
    """Return the names of the classes, by default those of the data set."""
    facts = None if dataset is None else dataset_facts(dataset)
    if facts is not None:
        if classes not in (None, len(facts.classes), facts.classes):
            raise UsageProblem(f"{dataset} has {len(facts.classes)} classes", "leave out `classes`")
        return facts.classes
    if classes is None:
        raise UsageProblem("the number of classes is missing", "give `classes` or `dataset`")
    return tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)


def _copied(net: nn.Module, name: str) -> nn.Module:
    if not isinstance(net, nn.Module):
        raise UsageProblem(
            f"`wrap` takes a torch.nn.Module, not {getattr(net, '__name__', type(net).__name__)}",
            "call the class of a network, and put a function into the `forward` of a module",
        )
    try:
        with torch.no_grad():  # else a copy of TorchScript is a part of a graph
            return copy.deepcopy(net)
    except Exception as problem:
        raise JeatError(
            f"`{name}` cannot be copied: {problem}", "keep no tensors of a graph in its attributes"
        ) from problem


def load_unknown(path: Path, foreign: Foreign, found: StateDict, device: torch.device) -> Model:
    """Load weights, name by name, into a network of a library or of the user's own code."""
    mean, std = foreign.mean, foreign.std
    draft = description(foreign, mean or (0.0,), std or (1.0,))
    classifier = network(draft)
    assert isinstance(classifier.net, Wrapped)
    module = classifier.net.module
    expected = module.state_dict()
    keys = match(found.every, expected)
    if not keys.fits:
        # A normalisation that lies beside the network in the file is none of its weights.
        keys = match(found.tensors, expected)
        if found.applied:
            mean, std = mean or found.mean, std or found.std
    if not keys.fits:
        exactly = "name the function that makes exactly the network of these weights"
        raise JeatError(
            f"`{path}` does not fit `{draft.arch}`: of its names\n{keys.describe()}",
            only_under(keys) if keys.holds else f"{exactly}, without arguments",
        )
    check_kinds(path, keys.weights, module.state_dict())
    module.load_state_dict(keys.weights, strict=False)
    meta = description(foreign, *_stated(path, mean, std))
    whole = Classifier(classifier.net, meta.mean, meta.std)
    return _checked(placed(whole, meta, device, path, found.accuracy))


def load_program(path: Path, kind: str, foreign: Foreign, device: torch.device) -> Model:
    """Load a file that brings its network."""
    named = f"`{path}`, {_KINDS[kind]},"
    if foreign.arch is not None or (foreign.norm_layer, foreign.activation) != ("batch", "relu"):
        raise UsageProblem(
            f"{named} contains its network",
            "leave out `--arch`, `--norm-layer` and `--activation`",
        )
    if foreign.dataset is None:
        raise UsageProblem(
            f"{named} does not say what its classes are",
            "describe it: `--dataset DATASET --mean R,G,B --std R,G,B`",
        )
    meta = description(replace(foreign, arch=kind), *_stated(path, foreign.mean, foreign.std))
    net = Wrapped(read_program(path, kind, device), about=checksum(path))
    classifier = Classifier(net, meta.mean, meta.std)
    return _checked(placed(classifier, meta, device, path))


def only_under(keys: KeyMatch) -> str:
    """Return how to load a network alone, of what lies in a file beside it."""
    return (
        "if these are no part of its function, load the network alone with "
        f"`--entry {keys.prefix.rstrip('.')}`"
    )


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
    if shape is not None:
        pass
    elif facts := dataset_facts(foreign.dataset):
        shape, classes = facts.shape, facts.classes
    else:
        images = load_images(foreign.dataset, "test")
        shape, classes = images.shape, images.classes
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


def _stated(
    path: Path, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Return a normalisation; it is asked for where a network may have one inside, or not."""
    if mean is None or std is None:
        raise UsageProblem(
            f"the normalisation of `{path}` is unknown",
            "give `--mean` and `--std`; 0 and 1 if the network does so itself",
        )
    return mean, std
