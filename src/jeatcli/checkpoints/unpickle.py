"""A reader of `torch.save`'s files that builds tensors and containers, and calls nothing else.

torch's own weights-only reader knows neither pickle's protocols 4 and 5 nor numpy's numbers and
argparse's arguments, which many training scripts save beside their weights. This one builds the
same tensors, for every protocol, and passes over numbers of numpy's, devices, dates, sets, paths.
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

_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
_NUMPY, _ARRAY = ("scalar", "dtype"), ("_reconstruct", "ndarray", "_frombuffer")
# Of the standard library and torch, by module; `__builtin__` and its `xrange` are of protocol 2.
_BUILTINS = ("set", "frozenset", "range", "xrange", "slice", "complex", "bytearray")
_FACTORIES = ("int", "long", "float", "bool", "str", "list", "dict")  # of a `defaultdict`
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_PASSED_OVER = {
    "_codecs": ("encode",),  # the bytes of a numpy number in protocol 2
    "__builtin__": _BUILTINS + _FACTORIES,
    "builtins": _BUILTINS + _FACTORIES,
    "collections": ("Counter", "deque"),
    "datetime": ("datetime", "date", "time", "timedelta", "timezone"),
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,  # of Python 3.13
    "torch": ("device",),
    "torch.torch_version": ("TorchVersion",),
}


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

    def append(self, item: Any) -> None:
        return None

    def extend(self, items: Any) -> None:
        return None


class Array(_Ignored):
    """Stands for an array of numpy's, whose numbers are passed over."""

    __slots__ = ()


class _Arguments(dict[str, Any]):
    """The attributes of a namespace, such as the arguments of a command."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("collections", "defaultdict"):
            return _Call(lambda *arguments: {})
        if (module, name) in (("argparse", "Namespace"), ("types", "SimpleNamespace")):
            return _Arguments
        if module == "torch._utils" and name in _REBUILD:
            return _Call(getattr(torch._utils, name))
        if (module, name) == ("torch", "Size"):
            return _Call(torch.Size)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        numpy = module.partition(".")[0] == "numpy"
        if numpy and name in _ARRAY:
            return Array
        if (numpy and name in _NUMPY) or name in _PASSED_OVER.get(module, ()):
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
