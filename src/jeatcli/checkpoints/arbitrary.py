"""Models of networks that are not ours: weights for code of others, and files with a network."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..core.models.classifier import Classifier
from ..core.models.layers import Shape
from ..core.models.wrapped import Wrapped, has_classify
from ..data.facts import dataset_facts
from ..data.images import load_images
from ..errors import JeatError, UsageProblem
from ..runtime.digests import checksum
from ..runtime.progress import Reporter
from .described import architecture
from .filling import compare, fill
from .header import FOREIGN, Meta
from .model import Model, network
from .naming import is_library
from .networks import check
from .normalisation import chosen, stated
from .program import read_program
from .settings import Foreign, per_channel
from .state_dict import StateDict
from .telltale import told_by_names

_KINDS = {"exported": "an exported program", "onnx": "an ONNX program"}


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
    hint = f"{exactly}, without arguments"
    if is_library(draft.arch):
        hint = f"check `--dataset`, of whose classes and images it is made, or {exactly}: "
        hint += "`--arch FILE.py:FUNCTION`"
    said = architecture(path)
    hint = told_by_names(keys) or (f"{hint}; {said}" if said else hint)
    fill(module, keys, path, draft.arch, hint, reporter)
    pixels = chosen(path, foreign, found, reporter) or stated(path, None, None)
    meta = description(foreign, *pixels)
    whole = Classifier(classifier.net, meta.mean, meta.std)
    model = checked(placed(whole, meta, device, path, found.accuracy))
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
        return checked(placed(Classifier(net, meta.mean, meta.std), meta, device, path))
    except JeatError as problem:
        if not other:
            raise
        raise JeatError(
            f"{named} was exported in {' and '.join(sorted(other))}: {problem.message}",
            "images are given in float32: export `net.float().eval()`",
        ) from problem


def checked(model: Model) -> Model:
    """Return a model of a network that is not ours once it has been tried out.

    Raises:
        JeatError: If the network lacks something that the commands need.
    """
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
