"""Making a model of somebody else's checkpoint and of what the user says of it."""

from __future__ import annotations

from pathlib import Path

import torch

from ..data.facts import dataset_facts
from ..data.images import load_images
from ..errors import JeatError, UsageProblem
from ..runtime.progress import Reporter
from .matching import guess, match
from .model import FOREIGN, Meta, Model, network
from .settings import Foreign, check_normalisation, per_channel
from .state_dict import StateDict, read


def load_foreign(
    path: Path, foreign: Foreign | None, device: torch.device, reporter: Reporter
) -> Model:
    """Load a state dict that `jeat train` did not write.

    Args:
        path: A file of PyTorch's or of safetensors.
        foreign: What it is.
        device: Where to put the weights.
        reporter: Hears what was decided.

    Raises:
        JeatError: If the file cannot be read, would run code, or does not fit its network.
        UsageProblem: If the description does not say enough.
    """
    foreign = foreign or Foreign()
    found = read(path, foreign.entry, reporter)
    if foreign.arch is None or foreign.dataset is None:
        raise _undescribed(path, foreign, found)
    meta = _meta(path, foreign, foreign.arch, foreign.dataset, found, reporter)
    classifier = network(meta)
    fit = match(found.tensors, classifier.net.state_dict())
    if not fit.fits:
        fitting = _either(guess(found.tensors, meta.shape))
        raise JeatError(
            f"`{path}` does not fit `{meta.arch}`: of its names\n{fit.describe()}",
            f"it fits {fitting}" if fitting else "check `--arch` and `--dataset`",
        )
    classifier.net.load_state_dict(fit.weights, strict=False)
    classifier = classifier.eval().requires_grad_(False).to(device)
    return Model(classifier, meta, None, path, found.accuracy)


def _undescribed(path: Path, foreign: Foreign, found: StateDict) -> UsageProblem:
    fitting = guess(found.tensors)
    arch = f"--arch {foreign.arch or 'ARCH'}"
    if foreign.arch is None and len(fitting) == 1:
        arch = fitting[0]
    known = f"; its names fit {_either(fitting)}" if fitting else ""
    return UsageProblem(
        f"`{path}` is somebody else's checkpoint, which does not say what it is",
        f"describe it: `{arch} --dataset {foreign.dataset or 'DATASET'}`{known}",
    )


def _either(options: list[str]) -> str:
    return " or ".join(f"`{each}`" for each in options)


def _meta(
    path: Path, foreign: Foreign, arch: str, dataset: str, found: StateDict, reporter: Reporter
) -> Meta:
    if facts := dataset_facts(dataset):
        shape, classes = facts.shape, facts.classes
    else:
        images = load_images(dataset, "test", reporter=reporter)
        shape, classes = images.shape, images.classes
    mean, std = _normalisation(path, foreign, dataset, found, reporter)
    return Meta(
        arch=arch,
        norm_layer=foreign.norm_layer,
        activation=foreign.activation,
        dataset=dataset,
        classes=classes,
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


def _normalisation(
    path: Path, foreign: Foreign, dataset: str, found: StateDict, reporter: Reporter
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std: what is said, else what the file holds, else the data set's."""
    if foreign.mean is not None and foreign.std is not None:
        return tuple(foreign.mean), tuple(foreign.std)
    if found.mean is not None and found.std is not None:
        check_normalisation(found.mean, found.std)
        reporter.say(f"normalisation of `{path.name}`: {_words(found.mean, found.std)}")
        return found.mean, found.std
    if facts := dataset_facts(dataset):
        reporter.say(
            f"`{path.name}` has no normalisation with it, so that of {dataset} is taken: "
            f"{_words(facts.mean, facts.std)}"
        )
        return facts.mean, facts.std
    raise UsageProblem(
        f"nothing says how `{path}` normalises its images",
        "give `--mean` and `--std`; 0 and 1 for pixels in [0, 1] as they are",
    )


def _words(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    listed = [",".join(f"{value:.4g}" for value in values) for values in (mean, std)]
    return f"`--mean {listed[0]} --std {listed[1]}`"
