"""A reader of `torch.save`'s files that builds tensors and containers, and calls nothing else.

torch's own weights-only reader knows neither pickle's protocols 4 and 5 nor numpy's numbers and
argparse's arguments, which many training scripts save beside their weights. This one allows the
same functions, for every protocol; numbers of numpy's, arguments and paths are passed over.
"""

from __future__ import annotations

import pickle
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
_NUMPY = ("scalar", "dtype", "_reconstruct", "ndarray", "_frombuffer")
# Besides, the bytes of a numpy number in protocol 2, and how paths of Python 3.13 are called.
_PASSED_OVER = (
    *(("_codecs", "encode"), ("argparse", "Namespace")),
    *(("pathlib", name) for name in ("Path", "PosixPath", "WindowsPath")),
    *(("pathlib._local", name) for name in ("Path", "PosixPath", "WindowsPath")),
)


class Refused(Exception):
    """A file asks for something, of this name, that is neither a tensor nor a container."""


class _Call:
    """A function without attributes, which a pickle could otherwise change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _Ignored:
    """Stands for the class of what is passed over, and does nothing."""

    __slots__ = ()

    def __new__(cls, *arguments: Any) -> _Ignored:
        return object.__new__(cls)

    def __call__(self, *arguments: Any) -> _Ignored:
        return self

    def __setstate__(self, state: Any) -> None:
        return None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in _REBUILD:
            return _Call(getattr(torch._utils, name))
        if (module, name) == ("torch", "Size"):
            return _Call(torch.Size)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        numpy = module.partition(".")[0] == "numpy" and name in _NUMPY
        if numpy or (module, name) in _PASSED_OVER:
            return _Ignored
        raise Refused(f"{module}.{name}")


_reader = ModuleType("jeatcli_unpickler")
_reader.__dict__.update(
    Unpickler=_Unpickler, load=lambda file, **options: _Unpickler(file, **options).load()
)


def read_tensors_alone(path: Path) -> Any:
    """Return what `torch.save` wrote to a file, or raise `Refused` where that is more than tensors.

    If it is damaged, there are exceptions of any kind.
    """
    if tarfile.is_tarfile(path):  # a format of torch 0.1, which would be unpacked on the disk
        raise ValueError("it is a tar archive")
    return torch.load(path, map_location="cpu", pickle_module=_reader, weights_only=False)
