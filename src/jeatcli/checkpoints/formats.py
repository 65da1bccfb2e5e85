"""What kind of file or directory somebody's weights are in, told by how it begins."""

import re
import shlex
import zipfile
from contextlib import suppress
from pathlib import Path

from ..errors import JeatError

_SAVE = "save a dictionary of tensors by name with `torch.save` or safetensors"
_CONVERT = f"load it where it was made, and {_SAVE}"
_UNPACK = "unpack it, and name the file of the weights"
_AGAIN = "copy or download the file again"
# How a file begins, at which byte, what it is, and how its weights come out.
_BEGINNINGS = (
    (b"\x93NUMPY", 0, "a NumPy file", _SAVE),
    (b"\x89HDF", 0, "an HDF5 file, as Keras writes it", _SAVE),
    (b"\x1f\x8b", 0, "compressed by gzip", "name a file that `gunzip` or `tar -x` has unpacked"),
    (b"BZh", 0, "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ", 0, "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", 0, "compressed by Zstandard", _UNPACK),
    (b"7z\xbc\xaf", 0, "a 7z archive", _UNPACK),
    (b"Rar!", 0, "a RAR archive", _UNPACK),
    (b"ustar", 257, "a tar archive", _UNPACK),
    (b"GGUF", 0, "a GGUF file, of language models", _CONVERT),
    (b"TFL3", 4, "a TensorFlow Lite program", _CONVERT),
)
# What nothing but its name tells.
_ENDINGS = {
    ".msgpack": "a checkpoint of Flax",
    ".pb": "a program of TensorFlow",
    ".index": "the index of a TensorFlow checkpoint",
    ".mlmodel": "a Core ML program",
    ".distcp": "a part of a distributed checkpoint",
}
_DISTRIBUTED = (
    "make one file of it: `python -m torch.distributed.checkpoint.format_utils dcp_to_torch {} "
    "weights.pt`"
)
# By the files in them: directories of checkpoints, and how to get at their weights.
_DIRECTORIES = (
    ("*.distcp", "a distributed checkpoint of PyTorch", _DISTRIBUTED),
    ("saved_model.pb", "a program of TensorFlow", _CONVERT),
    ("*.index", "a checkpoint of TensorFlow", _CONVERT),
    ("_CHECKPOINT_METADATA", "a checkpoint of Orbax", _CONVERT),
    ("*.msgpack", "a checkpoint of Flax", _CONVERT),
)


def is_web_page(start: bytes) -> bool:
    """Tell whether a file begins as a web page, which file hosts may send in its place."""
    # A file of safetensors may begin with that sign, too: with the length of its header.
    return re.match(rb"(\xef\xbb\xbf)?\s*<[!?a-zA-Z]{3}", start) is not None


def is_known(path: Path, start: bytes) -> bool:
    """Tell whether a file is of a kind that is told here, by eight bytes of it or more."""
    return _known(path, start) is not None or is_web_page(start)


def _known(path: Path, start: bytes) -> tuple[str, str] | None:
    for magic, place, kind, fix in _BEGINNINGS:
        if start[place:].startswith(magic):
            return kind, fix
    kind = _ENDINGS.get(path.suffix.lower(), "")
    return (kind, _CONVERT) if kind else None


def of_directory(path: Path) -> tuple[str, str] | None:
    """Return what kind of checkpoint a directory is, and what to do; None if it is none."""
    for pattern, kind, fix in _DIRECTORIES:
        if any(path.glob(pattern)):
            return kind, fix.format(shlex.quote(str(path)))
    return None


def check_format(path: Path) -> bytes:
    """Return how a file begins; refuse one of another kind, and say how its weights come out."""
    with path.open("rb") as handle:
        start = handle.read(512)
    if not start:
        raise JeatError(f"`{path}` is empty", _AGAIN)
    if is_web_page(start):
        raise JeatError(
            f"`{path}` is a web page, not a checkpoint",
            "download it again: file hosts may send such a page instead of a large file",
        )
    if found := _known(path, start) or (_of_zip(path) if start.startswith(b"PK") else None):
        raise JeatError(f"`{path}` is {found[0]}, not a state dict", found[1])
    return start


def _of_zip(path: Path) -> tuple[str, str] | None:
    """Return what a zip archive is, and what to do; None if `torch.save` may have written it."""
    names: list[str] = []
    with suppress(zipfile.BadZipFile, OSError, ValueError), zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] or name for name in archive.namelist()]
    if any(name == "constants.pkl" or name.startswith("code/") for name in names):
        load = f'torch.jit.load("{path}")'
        fix = f'save only its weights: `torch.save({load}.state_dict(), "weights.pt")`'
        return "a TorchScript program", fix
    if any(name.endswith(".npy") for name in names):
        return "a NumPy file", _SAVE
    if "model.weights.h5" in names:
        return "a network of Keras", _CONVERT
    if names and not any(name.endswith("data.pkl") for name in names):
        return "a zip archive of other files", _UNPACK
    return None
