"""Reading somebody else's weights: tensors and their names, and nothing that could run."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import JeatError, UsageProblem, unknown
from ..runtime.progress import SILENT, Reporter

Tensors = Mapping[str, Tensor]

# Where training scripts put the weights; of several, the first of these is meant.
ENTRIES = (
    *("state_dict", "model_state_dict", "model", "net", "network", "weights"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema", "last", "best"),
)
# What is put around a network: by DataParallel, torch.compile, Lightning, MadryLab's
# robustness, or by hand. A number is a place in a Sequential, behind a normalisation.
_WRAPPERS = ("module", "_orig_mod", "model", "net", "network")
# Attackers that hold a second reference to the network, in MadryLab's robustness.
_COPIES = ("attacker",)
# What training scripts call the accuracy on clean test images, as a share or in per cent.
_ACCURACIES = ("clean_acc", "nat_acc", "test_acc", "best_prec1", "best_acc1", "best_acc", "acc")
_NORMALISATIONS = (("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std"))


@dataclass(frozen=True)
class StateDict:
    """The weights of a file.

    Args:
        tensors: By name, without what was wrapped around the network.
        mean, std: The normalisation that the file holds, or None.
        accuracy: The clean accuracy that the file states, or None.
    """

    tensors: Tensors
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    accuracy: float | None = None


def read(path: Path, entry: str | None = None, reporter: Reporter = SILENT) -> StateDict:
    """Read a state dict that PyTorch or safetensors wrote, on the CPU.

    Args:
        path: The file.
        entry: Which of its dictionaries holds the weights, where there are several.
        reporter: Hears which one was taken.

    Raises:
        JeatError: If the file is damaged, would run code, or holds no tensors.
        UsageProblem: If it has no such entry.
    """
    content = _content(path)
    tensors = _unwrapped(_choose(path, _state_dicts(content), entry, reporter))
    accuracy = _accuracy(content)
    for names in _NORMALISATIONS:
        for key in [key for key in tensors if key.rpartition(".")[2] == names[0]]:
            mean, std = (f"{key.removesuffix(names[0])}{name}" for name in names)
            if std in tensors and tensors[mean].numel() == tensors[std].numel() <= 4:
                values = [tuple(tensors.pop(name).flatten().tolist()) for name in (mean, std)]
                return StateDict(tensors, values[0], values[1], accuracy)
    return StateDict(tensors, None, None, accuracy)


def _accuracy(content: Any) -> float | None:
    """Return the clean accuracy, in [0, 1], that training scripts put beside the weights."""
    for name in _ACCURACIES if isinstance(content, Mapping) else ():
        value = content.get(name)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, int | float) and 0 < value <= 100:
            return float(value if value <= 1 else value / 100)
    return None


def _content(path: Path) -> Any:
    """Return what is in a file.

    Raises:
        JeatError: If it cannot be read without running what is in it.
    """
    with path.open("rb") as handle:
        start = handle.read(64).lstrip()
    # A file of safetensors may begin with that sign, too: with the length of its header.
    if re.match(rb"<[!?a-zA-Z]{3}", start):
        raise JeatError(
            f"`{path}` is a web page, not a checkpoint",
            "download it again: hosts of large files send such a page in their place",
        )
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are refused below anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        if match := re.search(r"GLOBAL ([\w.]+)", str(problem)):
            raise JeatError(
                f"`{path}` holds more than tensors (`{match[1]}`), and to read it could run code",
                "if you trust its origin, save its state dict alone with `torch.save`",
            ) from problem
        raise _damaged(path) from problem
    except Exception as problem:
        raise _damaged(path) from problem


def _damaged(path: Path) -> JeatError:
    return JeatError(
        f"`{path}` is damaged, or no checkpoint of PyTorch", "copy or download the file again"
    )


def _state_dicts(content: Any, name: str = "") -> dict[str, Tensors]:
    """Return the innermost dictionaries of tensors, by the way to them."""
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, Tensors] = {}
    for key, value in content.items():
        if isinstance(key, str) and not key.startswith("optim"):
            found |= _state_dicts(value, f"{name}.{key}" if name else key)
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    return found or ({name: tensors} if tensors else {})


def _choose(
    path: Path, found: Mapping[str, Tensors], entry: str | None, reporter: Reporter
) -> Tensors:
    if not found:
        raise JeatError(f"`{path}` holds no tensors by name", "name the file of a state dict")
    names = [name for name in found if name]
    if entry is not None:
        if not names:
            raise UsageProblem(
                f"`{path}` has no entry `{entry}`: it is one state dict", "leave out `--entry`"
            )
        if entry not in names:
            raise unknown("entry", entry, names)
        return found[entry]
    customary = [name for name in ENTRIES if name in found]
    if len(found) > 1 and not customary:
        listed = ", ".join(f"`{name}`" for name in names)
        raise UsageProblem(f"`{path}` holds several state dicts: {listed}", "name one by `--entry`")
    chosen = customary[0] if customary else next(iter(found))
    if others := [f"`{name}`" for name in names if name != chosen]:
        reporter.say(f"using `{chosen}` of `{path.name}`; `--entry` names {' or '.join(others)}")
    return found[chosen]


def _unwrapped(tensors: Tensors) -> dict[str, Tensor]:
    """Take what is wrapped around a network off the names, unless two names would become one."""
    bare: dict[str, Tensor] = {}
    for key, value in tensors.items():
        parts = key.split(".")
        while len(parts) > 1 and (parts[0] in _WRAPPERS or parts[0].isdigit()):
            parts.pop(0)
        name = ".".join(part for part in parts if part != "_orig_mod")
        if name in bare:
            return dict(tensors)
        if parts[0] not in _COPIES:
            bare[name] = value
    return bare
