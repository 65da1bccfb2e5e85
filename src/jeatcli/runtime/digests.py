"""Short names for what a result depends on: weights, images and settings."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn


def digest(*networks: nn.Module, **settings: object) -> str:
    """Return a digest of the weights of networks and of settings, 16 hexadecimal digits."""
    held = [pair for network in networks for pair in network.state_dict().items()]
    named = [(name, value) for name, value in held if isinstance(value, Tensor)]
    if len(named) < len(held):  # `get_extra_state` may return anything
        settings["state"] = [(n, repr(value)) for n, value in held if not isinstance(value, Tensor)]
    return named_digest(named, **settings)


def named_digest(tensors: Iterable[tuple[str, Tensor]], **settings: object) -> str:
    """Return a digest of tensors with their names, in this order, and of settings, 16 digits."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def tensor_digest(*tensors: Tensor) -> str:
    """Return a digest of images or labels, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor, on the CPU without a copy of them."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Return the SHA-256, or the `md5`, of the file at `path`, hexadecimal.

    MD5 is what the authors of data sets publish; it guards against accidents, not attackers.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()
