"""Loading the weights of a file into a network: all of them, each under its name, or none."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..errors import JeatError
from ..runtime.progress import SILENT, Reporter
from .folding import folded
from .key_match import KeyMatch, list_names
from .matching import match_inside
from .state_dict import StateDict, check_kinds


def compare(
    found: StateDict, expected: Mapping[str, torch.Tensor], path: Path, reporter: Reporter
) -> tuple[StateDict, KeyMatch]:
    """Compare a file with a network, which may have weights in parts, as the file, or whole."""
    found, keys = _compared(found, expected)
    if not keys.fits:
        whole, keys_of_whole = _compared(folded(found, path, SILENT), expected)
        if keys_of_whole.fits:
            folded(found, path, reporter)  # again, to be told
            return whole, keys_of_whole
    return found, keys


def _compared(found: StateDict, expected: Mapping[str, torch.Tensor]) -> tuple[StateDict, KeyMatch]:
    keys = match_inside(found.every, expected)
    if not keys.fits:
        # A normalisation that lies beside the network in the file is none of its weights.
        return found, match_inside(found.tensors, expected)
    if len(found.every) > len(found.tensors):
        # One of the network's own; whether there is another before it, the file cannot tell.
        return replace(found, mean=None, std=None), keys
    return found, keys


def fill(
    net: nn.Module, keys: KeyMatch, path: Path, arch: str, hint: str, reporter: Reporter
) -> None:
    """Load the weights of a file into a network, or refuse others; `hint` says what they may be."""
    if keys.holds:
        alone = "if these are no part of its function, load the network alone with"
        hint = f"{alone} `--entry {keys.prefix.rstrip('.')}`"
    if not keys.fits:
        raise JeatError(f"`{path}` does not fit `{arch}`: of its names\n{keys.describe()}", hint)
    check_kinds(path, keys.weights, net.state_dict())
    net.load_state_dict(keys.weights, strict=False)
    _check_filled(net.state_dict(), keys, path, arch)
    _check_finite({name for name, _ in net.named_parameters()}, keys, path)
    if _is_unmeasured(keys.weights):
        reporter.warn(
            f"all batch norms of `{path.name}` have mean 0 and variance 1, as before training; if "
            "only the parameters were averaged, measure them by `torch.optim.swa_utils.update_bn`"
        )
    if keys.ignored:
        reporter.say(f"`{path.name}`: ignored, beside the network: {list_names(keys.ignored)}")


def _check_finite(parameters: set[str], keys: KeyMatch, path: Path) -> None:
    """Refuse weights and running statistics with NaN or infinity, which may only dull a channel."""
    bad = [
        name
        for name, value in keys.weights.items()
        if (name in parameters or name.endswith(("running_mean", "running_var")))
        and not bool(value.isfinite().all())
    ]
    if bad:
        raise JeatError(
            f"`{path}` holds NaN or infinity in {list_names(bad)}",
            "its training may have diverged, so use an earlier one; or float16, which ends at "
            "65,504, could not hold the numbers: save them in float32",
        )


def _is_unmeasured(weights: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether the running statistics of all batch norms are as they are at first."""
    first = {"running_mean": 0.0, "running_var": 1.0}
    kinds = {name: name.rpartition(".")[2] for name in weights}
    measured = [(weights[name], first[kind]) for name, kind in kinds.items() if kind in first]
    return bool(measured) and all(bool((value == at).all()) for value, at in measured)


def _check_filled(held: Mapping[str, torch.Tensor], keys: KeyMatch, path: Path, arch: str) -> None:
    """Refuse a network that has not taken every weight, as one that shares a tensor of two."""
    lost = [name for name, value in keys.weights.items() if not _same(held[name], value)]
    if lost:
        raise JeatError(
            f"`{path}` does not fit `{arch}`, which keeps other numbers than the file's in "
            f"{list_names(lost)}",
            "it may share one tensor where the file has two: name the code that trained these "
            "weights, or save the file again from the network that it is of",
        )


def _same(held: torch.Tensor, given: torch.Tensor) -> bool:
    """Tell whether two tensors are equal in the type of the first one, NaN to NaN."""
    cast = given.to(held)
    return bool(((held == cast) | ((held != held) & (cast != cast))).all())
