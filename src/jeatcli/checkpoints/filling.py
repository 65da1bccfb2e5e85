"""Loading the weights of a file into a network: all of them, each under its name, or none."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..errors import JeatError
from ..runtime.progress import Reporter
from .key_match import KeyMatch, list_names
from .state_dict import check_kinds


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
    if keys.ignored:
        reporter.say(f"`{path.name}`: ignored, beside the network: {list_names(keys.ignored)}")


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
