"""Reading the weights of others: tensors and their names, and nothing that could run."""

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import JeatError, UsageProblem, unknown
from ..runtime.progress import SILENT, Reporter
from .formats import check_format
from .header import INDEX_ENDING
from .recorded import beside, normalisations, recorded
from .shards import read_shards
from .unpickle import Array, Refused, read_tensors_alone

Tensors = Mapping[str, Tensor]

# Where training scripts put the weights, the empty name being the top of the file; of several, the
# first of these is meant.
ENTRIES = (
    *("state_dict", "model_state_dict", "model", "net", "network", "weights", ""),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema", "last", "best"),
)
# What training scripts call the accuracy on clean test images, as a share or in per cent.
_ACCURACIES = ("clean_acc", "nat_acc", "test_acc", "best_prec1", "best_acc1", "best_acc", "acc")
# Counts of training steps, which nothing reads in eval mode.
COUNTER = "num_batches_tracked"
_LOAD = 'torch.load("{}", map_location="cpu", weights_only=False)'
_PLAIN = 'pickle.load(open("{}", "rb"))'  # without `torch.save`


@dataclass(frozen=True)
class StateDict:
    """The weights of a file, and the normalisation that it holds.

    `applied` is whether that is a part of the function. MAIR notes one that is not; nobody knows
    it of one among settings, which is empty if its numbers are not read.
    """

    tensors: Tensors  # by name, as in the file, without the normalisation
    every: Tensors  # the same with it
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    accuracy: float | None = None  # on clean images, as the file states
    applied: bool = True
    where: str = ""  # the file that has the normalisation


def read(path: Path, entry: str | None = None, reporter: Reporter = SILENT) -> StateDict:
    """Read a state dict that PyTorch or safetensors wrote, on the CPU.

    `entry` is the one of its dictionaries that holds the weights, or the prefix of their names.

    Raises:
        JeatError: If the file is damaged, would run code, or holds no tensors that can be used.
        UsageProblem: If it has no such entry.
    """
    content = _content(path)
    if isinstance(content, list | tuple):  # `torch.save((net.state_dict(), ...), ...)`
        content = {str(k): each for k, each in enumerate(content) if isinstance(each, Mapping)}
    tensors = dict(_choose(path, _state_dicts(content, "", set()), entry, reporter))
    _check_tensors(path, tensors)
    every = dict(tensors)
    mean = std = None
    applied = True
    for names, values in normalisations(tensors):
        if mean is None:
            mean, std = values
            applied = f"{min(names).rpartition('.')[0]}.n_classes".lstrip(".") not in tensors
        if values == (mean, std):  # another one is none that we know to apply
            tensors = {key: value for key, value in tensors.items() if key not in names}
    where = path.name
    for place, told in ((path.name, content), *beside(path)) if mean is None else ():
        if noted := recorded(told):
            (mean, std), applied, where = noted, False, place
            break
    return StateDict(tensors, every, mean, std, _accuracy(content), applied, where)


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
    """Return what is in a file; refuse one that cannot be read without running what is in it."""
    if path.name.endswith(INDEX_ENDING):
        return read_shards(path, _content)
    start = check_format(path)
    try:
        if start[8:9] == b"{":  # whatever its name: the header of safetensors
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are refused below anyway
            try:
                with path.open("rb") as file:  # by its path, torch would go by the ending, too
                    return torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                return read_tensors_alone(path)
    except Refused as problem:
        plain = str(problem) == "torch.storage._load_from_bytes"
        load = (_PLAIN if plain else _LOAD).format(path)
        raise JeatError(
            f"`{path}` holds more than tensors (`{problem}`), and reading it could run code",
            "if you trust its origin, save only the weights, where the code it needs can be "
            f'imported: `torch.save({load}["state_dict"], "weights.pt")`, with the key of its '
            f'weights; for a whole network, `torch.save({load}.state_dict(), "weights.pt")`',
        ) from problem
    except Exception as problem:
        raise JeatError(
            f"`{path}` is damaged, or not a PyTorch checkpoint", "copy or download the file again"
        ) from problem


def _state_dicts(value: Any, name: str, visited: set[int]) -> dict[str, Tensors]:
    """Return the innermost dictionaries of tensors, by the keys that lead to them.

    A state dict is one even if there are dictionaries inside, which are no part of it.
    """
    if not isinstance(value, Mapping) or id(value) in visited:
        return {}
    visited.add(id(value))
    named = {key: item for key, item in value.items() if isinstance(key, str)}
    found: dict[str, Tensors] = {}
    for key, item in named.items():
        if not key.startswith("optim"):
            found |= _state_dicts(item, f"{name}.{key}" if name else key, visited)
    tensors: dict[str, Any] = {k: item for k, item in named.items() if isinstance(item, Tensor)}
    layers = any("." in key and item.ndim > 1 for key, item in tensors.items())
    if layers:  # weights, too, which are refused
        tensors |= {k: item for k, item in named.items() if isinstance(item, Array) and "." in k}
    return {name: tensors} | found if tensors and (layers or not found) else found


def _choose(
    path: Path, found: Mapping[str, Tensors], entry: str | None, reporter: Reporter
) -> Tensors:
    if not found:
        raise JeatError(
            f"`{path}` holds no named tensors",
            "name the file of a state dict: tensors by name, neither a list nor arrays of numpy",
        )
    if entry and entry in found:
        return found[entry]
    # Single numbers, such as the scores of callbacks, are no network.
    found = {name: each for name, each in found.items() if _has_vectors(each)} or found
    names = [name for name in found if name]
    customary = [name for name in ENTRIES if name in found]
    if entry is not None:
        # The prefix of names in a dictionary, of which the customary one comes first.
        for name in [*customary, *found]:
            prefix = entry.removeprefix(f"{name}.").rstrip(".") + "."
            inside = {
                key.removeprefix(prefix): tensor
                for key, tensor in found[name].items()
                if key.startswith(prefix)
            }
            if inside:
                return inside
        prefixes = {key.partition(".")[0] for tensors in found.values() for key in tensors}
        raise unknown("entry", entry, [*names, *prefixes])
    if len(found) > 1 and not customary:
        listed = ", ".join(f"`{name}`" for name in names)
        raise UsageProblem(
            f"`{path}` holds several state dicts: {listed}", "choose one with `--entry`"
        )
    chosen = customary[0] if customary else next(iter(found))
    if others := [f"`{name}`" for name in names if name != chosen]:
        used = f"`{chosen}` of" if chosen else "the weights at the top of"
        reporter.say(f"using {used} `{path.name}`; `--entry` names {' or '.join(others)}")
    return found[chosen]


def _has_vectors(tensors: Tensors) -> bool:
    return any(isinstance(each, Tensor) and each.ndim > 0 for each in tensors.values())


def check_kinds(path: Path, tensors: Tensors, expected: Tensors) -> None:
    """Refuse numbers of another kind than the network's, which torch would convert."""
    for name, tensor in tensors.items():
        ours = expected[name]
        whole = not any(_kind(ours)) and tensor.is_floating_point() and _is_whole(name, tensor)
        if _kind(tensor) != _kind(ours) and not whole:
            kinds = [str(each.dtype).removeprefix("torch.") for each in (tensor, ours)]
            raise JeatError(
                f"`{path}` holds `{name}` as {kinds[0]}, where the network has {kinds[1]}",
                "save the weights as they were trained, before they were quantised or rounded",
            )


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _is_whole(name: str, tensor: Tensor) -> bool:
    """Tell whether floating-point numbers are whole ones, which their type has not rounded.

    `half()` of a whole state dict also takes indices and masks. Counts of steps do not matter.
    """
    exact = bool((tensor == tensor.round()).all())
    most = 2 / torch.finfo(tensor.dtype).eps
    return name.endswith(COUNTER) or (exact and bool((tensor.abs() <= most).all()))


def _check_tensors(path: Path, tensors: Tensors) -> None:
    """Refuse tensors that a network of float32 cannot take as they are."""
    for name, tensor in tensors.items():
        kind = fix = ""
        if isinstance(tensor, Array):
            kind, fix = "a NumPy array", "save `torch.from_numpy(array)` in its place"
        elif tensor.is_meta:
            kind, fix = "without content (on the meta device)", "save the weights from a device"
        elif tensor.is_quantized:
            kind, fix = "quantised", "save `tensor.dequantize()` in its place"
        elif tensor.layout != torch.strided:
            kind, fix = "sparse", "save `tensor.to_dense()` in its place"
        elif type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            kind = f"of the class `{type(tensor).__name__}`"
            fix = "save a plain tensor in its place, of a DTensor `tensor.full_tensor()`"
        elif tensor.is_floating_point() and tensor.dtype.itemsize == 1:
            kind = f"quantised ({str(tensor.dtype).removeprefix('torch.')})"
            fix = "save the weights as they were before"
        if kind:
            raise JeatError(f"`{path}` holds `{name}`, which is {kind}", fix)
