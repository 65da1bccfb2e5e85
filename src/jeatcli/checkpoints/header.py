"""What a checkpoint says of itself: declared as dataclasses, and checked before use."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..core.models import ACTIVATIONS, NORM_LAYERS
from ..core.threat import NORMS, Threat
from ..data.facts import customary_eps, dataset_facts
from ..errors import JeatError, UsageProblem
from ..runtime.plain import parsed
from .formats import is_known
from .naming import check_arch

SCHEMA = 1
# The method of checkpoints that were not trained here.
FOREIGN = "foreign"
_LONGEST = 100_000_000
_LARGEST_SIDE = 1 << 16
_LARGEST_INT = 2**63 - 1
# What others' files are called; `state_dict` says what each of them is.
WEIGHT_ENDINGS = (".pt", ".pth", ".th", ".ckpt", ".pt2", ".onnx")
FOREIGN_ENDINGS = (*WEIGHT_ENDINGS, ".npy", ".npz", ".h5")
# Options of methods that other commands go by.
_NUMBERS = {"eps", "sgld_step_size", "sgld_noise", "sgld_clip", "chain_steps", "chain_step_size"}
CONFIG_FILE = "config.toml"
# What the Hugging Face libraries write beside the weights.
CONFIG_FILES = ("config.json", "preprocessor_config.json")
# Of the list of files that a large checkpoint consists of.
INDEX_ENDING = ".index.json"
MODEL_FILE = "model.safetensors"
# What the Hugging Face libraries call the weights in a directory, beside a `model.safetensors`.
FOLDER_FILES = (
    f"{MODEL_FILE}{INDEX_ENDING}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX_ENDING}",
)
MERGE = (
    "name the file with the weights; of several files their `*.index.json`, or save them as one "
    "state dict"
)
REWRITTEN = "copy the file again, or resume the run with `jeat train`, which rewrites it"
_COPY = "copy the file again, or download it anew"
_NAME_OURS = "name a run directory or a `model.safetensors` that `jeat train` wrote"


class CutShort(JeatError):
    """A checkpoint is not whole; what there is of it is of no use."""


class Damaged(JeatError):
    """The header of a checkpoint of ours lacks something or has what cannot be."""


class NotOurs(JeatError):
    """A checkpoint that `jeat train` did not write."""


@dataclass(frozen=True)
class Meta:
    """What a checkpoint says of itself, in its header's one key `jeat`, or the user of it.

    `extra` is what `--extra` added to the training images: a file, its share of each batch, a
    digest. `about` is what nothing depends on, such as the package's network's licence.
    """

    arch: str
    norm_layer: str
    activation: str
    dataset: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    method: str
    options: Mapping[str, Any]
    epoch: int
    epochs: int
    finished: bool
    seed: int
    version: str = version("jeat-cli")
    schema: int = SCHEMA
    extra: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def threat(self) -> Threat:
        """The threat model that the run was trained for, else the data set's customary one."""
        if "eps" in self.options:
            return Threat(self.options["norm"], self.options["eps"])
        return Threat("linf", customary_eps(self.dataset)["linf"])

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Meta:
        """Build it from a header that `read_header` has checked."""
        known = {each.name: header[each.name] for each in fields(cls) if each.name in header}
        tuples = ("classes", "shape", "mean", "std")
        return cls(**known | {name: tuple(known[name]) for name in tuples})


@dataclass(frozen=True)
class StateHeader:
    """What the state of a training run says of itself."""

    step: int
    attempt: int
    images: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    schema: int = SCHEMA


def read_header(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself, after checking it and that the file is whole.

    Raises:
        CutShort: If its end is missing.
        Damaged: If its header has the marks of ours and lacks the rest.
        NotOurs: If `jeat train` did not write it.
        JeatError: If it is of another kind, or written by a newer version.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            start = handle.read(8)
            length = int.from_bytes(start, "little") if len(start) == 8 else 0
            raw = handle.read(min(length, size)) if 0 < length <= _LONGEST else b""
    except OSError as problem:
        raise JeatError(
            f"cannot read `{path}`: {problem.strerror}", "check the path and its permissions"
        ) from problem
    if path.name.endswith(INDEX_ENDING):
        raise NotOurs(f"`{path}` was not written by `jeat train`", _NAME_OURS)
    if start == b"version " or path.suffix.lower() == ".json":
        pointer = start == b"version "
        raise JeatError(
            f"`{path}` is {'a pointer of Git LFS' if pointer else 'JSON'}, not a checkpoint",
            "fetch the file itself: `git lfs pull`" if pointer else MERGE,
        )
    # The first byte alone may be that of the length of a header of ours.
    pickled = start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and length > _LONGEST)
    if pickled or is_known(path, start) or path.suffix.lower() in (*FOREIGN_ENDINGS, ".tar"):
        raise NotOurs(f"`{path}` was not written by `jeat train`", _NAME_OURS)
    if size < 8 or size - 8 < length <= _LONGEST:
        raise _cut_short(path, size, raw)
    header = parsed(raw)
    about = header.pop("__metadata__", {}) if header else None
    ends = [_end(entry) for entry in header.values()]
    if not isinstance(about, dict) or None in ends:
        theirs = raw[:1] == b"{" or path.suffix.lower() == ".safetensors"
        again = f"; if it is a third-party checkpoint, {_COPY}" if theirs else ""
        raise JeatError(f"`{path}` is not a jeat checkpoint", _NAME_OURS + again)
    if 8 + length + max((end for end in ends if end), default=0) > size:
        raise _cut_short(path, size, raw)
    if "jeat" not in about:
        raise NotOurs(f"`{path}` was not written by `jeat train`", _NAME_OURS)
    return _checked(path, parsed(about["jeat"]))


def _end(entry: object) -> int | None:
    """Return where the bytes of a tensor end, or None if its entry does not say."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or not _fits(offsets, tuple[int, int]):
        return None
    return int(offsets[1]) if 0 <= offsets[0] <= offsets[1] else None


def _checked(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Return a header whose every field has its type and lies within its bounds."""
    if not _fits(header.get("schema"), int) or header["schema"] < 1:
        raise JeatError(f"`{path}` is not a jeat checkpoint", _NAME_OURS)
    if header["schema"] > SCHEMA:
        raise JeatError(
            f"`{path}` has schema {header['schema']}, written by jeat "
            f"{header.get('version', '?')}; this version reads up to {SCHEMA}",
            "upgrade: `pip install -U jeat-cli`",
        )
    kind = StateHeader if "step" in header else Meta
    problem = _misfit(header, kind) or (_impossible(header) if kind is Meta else None)
    if problem:
        hint = REWRITTEN
        if problem.startswith("unknown "):
            hint += "; what a plugin added needs its module in `JEAT_PLUGINS`"
        raise Damaged(f"the header of `{path}` is damaged: {problem}", hint)
    return header


def _misfit(header: Mapping[str, Any], kind: type) -> str | None:
    """Say which field of a declared header is missing or of another type."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        if each.name not in header:
            if each.default is each.default_factory is MISSING:
                return f"`{each.name}` is missing"
        elif not _fits(header[each.name], hints[each.name]):
            return f"`{each.name}` cannot be {str(header[each.name])[:80]!r}"
    return None


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value of JSON has a type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is tuple:
        if not isinstance(value, list):
            return False
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is Mapping:
        return isinstance(value, dict) and all(
            item is None or isinstance(item, bool | str) or _fits(item, float)
            for item in value.values()
        )
    if hint is float or hint is int:
        number = isinstance(value, int | hint) and not isinstance(value, bool)
        return number and math.isfinite(value) and abs(value) <= _LARGEST_INT
    return isinstance(value, hint)


def _impossible(header: Mapping[str, Any]) -> str | None:
    """Say which field has a value that no run can have."""
    shape, options = header["shape"], header["options"]
    checks = {
        "shape": all(1 <= side <= _LARGEST_SIDE for side in shape),
        "classes": bool(header["classes"]) and all(map(str.strip, header["classes"])),
        "mean": len(header["mean"]) == shape[0],
        "std": len(header["std"]) == shape[0] and min(header["std"], default=0) > 0,
        "norm_layer": header["norm_layer"] in NORM_LAYERS,
        "activation": header["activation"] in ACTIVATIONS,
        "epoch": header["epoch"] >= 0,
    }
    for name, holds in checks.items():
        if not holds:
            return f"`{name}` cannot be {str(header[name])[:80]!r}"
    for name in options.keys() & _NUMBERS:
        if not (_fits(options[name], float) and options[name] >= 0):
            return f"`{name}` of `options` cannot be {str(options[name])[:80]!r}"
    if "eps" in options and options.get("norm") not in NORMS:
        return "`options` have no valid `norm` beside `eps`"
    try:
        check_arch(header["arch"])
        dataset_facts(header["dataset"])
    except UsageProblem as problem:
        return problem.message
    return None


def _cut_short(path: Path, size: int, raw: bytes) -> CutShort:
    """Say that a file is cut short, and whether more than a copy helps: if it is of a run."""
    ours = b'"jeat":' in raw or (path.parent / CONFIG_FILE).is_file()
    return CutShort(f"`{path}` is cut short at {size:,} bytes", REWRITTEN if ours else _COPY)
