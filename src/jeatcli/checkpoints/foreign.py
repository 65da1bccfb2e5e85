"""A checkpoint that `jeat train` did not write, made a model by its description."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..core.models import ARCHITECTURES
from ..core.models.classifier import Classifier
from ..errors import JeatError, UsageProblem
from ..runtime.progress import Reporter
from .arbitrary import description, load_program, load_unknown, placed
from .described import architecture, warn_of_contradictions
from .filling import fill
from .folding import folded
from .header import INDEX_ENDING, MERGE, Meta
from .key_match import KeyMatch
from .matching import guess, match
from .model import Model, network
from .naming import is_code, is_library
from .normalisation import chosen, customary
from .program import kind_of
from .robustbench import PREFIX, find
from .settings import Foreign
from .state_dict import StateDict, read
from .telltale import LACKS, lacks_statistics, told_by_names

# How the files of a checkpoint are numbered that is too large for one.
_PART = r"-(\d{5})-of-(\d{5})\."


def load_foreign(
    path: Path, foreign: Foreign | None, device: torch.device, reporter: Reporter
) -> Model:
    """Load a file that `jeat train` did not write, and say what was decided about it.

    Raises:
        JeatError: If the file cannot be read, would run code, or does not fit its network.
        UsageProblem: If the description does not say enough.
    """
    model = _loaded(path, foreign or Foreign(), device, reporter)
    warn_of_contradictions(path, model.meta, reporter)
    return model


def _loaded(path: Path, foreign: Foreign, device: torch.device, reporter: Reporter) -> Model:
    if (part := re.search(_PART, path.name)) and int(part[2]) > 1:
        number, count = map(int, part.groups())
        index = next(path.parent.glob(f"*{INDEX_ENDING}"), None)
        hint = f"name all of them by `{index}`" if index else MERGE
        raise JeatError(f"`{path}` is {number} of {count} files of a checkpoint", hint)
    if kind := kind_of(path):
        return load_program(path, kind, foreign, device)
    found = read(path, foreign.entry, reporter)
    if foreign.arch and (is_library(foreign.arch) or is_code(foreign.arch)) and foreign.dataset:
        return load_unknown(path, foreign, found, device, reporter)
    found = folded(found, path, reporter)
    if (foreign.arch or "").startswith(PREFIX):
        return _published(path, foreign, found, device, reporter)
    if foreign.arch is None or foreign.dataset is None:
        raise _undescribed(path, foreign, found)
    pixels = chosen(path, foreign, found, reporter)
    pixels = pixels or customary(path, foreign.dataset, reporter)
    meta = description(foreign, *pixels)
    fitting = guess(found.tensors, meta.shape)
    classifier = _fitted(path, meta, found, fitting, reporter)
    if others := [option for option in fitting if option.split()[1] != meta.arch]:
        reporter.say(
            f"`{path.name}` also fits {_either(others)}, which compute a different function: "
            "compare the clean accuracy with the published one"
        )
    return placed(classifier, meta, device, path, found.accuracy)


def _published(
    path: Path, foreign: Foreign, found: StateDict, device: torch.device, reporter: Reporter
) -> Model:
    """Load the weights of an entry of RobustBench, which says all the rest."""
    if foreign.mean is not None or (foreign.norm_layer, foreign.activation) != ("batch", "relu"):
        raise UsageProblem(
            f"`{foreign.arch}` says how images are normalised, and which layers there are",
            "leave out `--mean`, `--std`, `--norm-layer` and `--activation`",
        )
    heads = [len(value) for value in found.tensors.values() if value.ndim == 2]
    entry = find(str(foreign.arch), foreign.dataset, heads[-1] if heads else None)
    described = replace(
        foreign,
        arch=entry.arch,
        dataset=foreign.dataset or entry.dataset,
        activation=entry.activation,
    )
    meta = replace(description(described, *entry.normalisation), options=asdict(entry.threat))
    reporter.say(
        f"RobustBench's {entry.name} ({entry.dataset}, {entry.threat}): `--arch {entry.arch}`, "
        f"clean {100 * entry.clean:.2f} %, robust {100 * entry.robust:.2f} %"
    )
    classifier = _fitted(path, meta, found, guess(found.tensors, meta.shape), reporter)
    return replace(placed(classifier, meta, device, path, entry.clean), published=entry)


def _fitted(
    path: Path, meta: Meta, found: StateDict, fitting: list[str], reporter: Reporter
) -> Classifier:
    """Return the network of a description with the weights of a file."""
    classifier = network(meta)
    keys = match(found.tensors, classifier.net.state_dict()).known_unused()
    hint = _what_fits(meta, fitting or guess(found.tensors))
    if hint and lacks_statistics(keys):
        hint += f", unless {LACKS}"
    hint = hint or told_by_names(keys) or _fix(keys)
    fill(classifier.net, keys, path, meta.arch, hint, reporter)
    return classifier


def _undescribed(path: Path, foreign: Foreign, found: StateDict) -> UsageProblem:
    if foreign.arch is not None:
        return UsageProblem(
            f"`{path}` does not say which images it takes",
            f"name their data set: `--arch {foreign.arch} --dataset DATASET`",
        )
    fitting = guess(found.tensors)
    arch = fitting[0] if len(fitting) == 1 else "--arch ARCH"
    known = f"; its names fit {_either(fitting)}" if fitting else f"; {_none_fits()}"
    said = architecture(path)
    known += f"; {said}" if said else ""
    if fitting and all(option.endswith(" group") for option in fitting):
        known += f", unless {LACKS}"
    return UsageProblem(
        f"`{path}` was not written by `jeat train`, and does not say what it is",
        f"describe it: `{arch} --dataset {foreign.dataset or 'DATASET'}`{known}",
    )


def _what_fits(meta: Meta, fitting: list[str]) -> str | None:
    other = f" --norm-layer {meta.norm_layer}" if meta.norm_layer != "batch" else ""
    if f"--arch {meta.arch}{other}" in fitting:
        classes = len(meta.classes)
        return (
            f"it fits {_either(fitting)} of another number of classes than the {classes} of "
            f"{meta.dataset}, or for images of other channels or size: check `--dataset`"
        )
    return f"it fits {_either(fitting)}" if fitting else None


def _fix(keys: KeyMatch) -> str:
    """Say what makes a state dict fit that fits no other network, either."""
    if keys.missing or keys.mismatched:
        return _none_fits()
    return "if these are no part of its function, save a state dict without them"


def _none_fits() -> str:
    return (
        f"it fits none of the networks {', '.join(ARCHITECTURES)}: name the code of its own by "
        "`--arch FILE.py:FUNCTION`, or a network of a library by `timm:NAME` or `torchvision:NAME`"
    )


def _either(options: list[str]) -> str:
    return " or ".join(f"`{option}`" for option in options)
