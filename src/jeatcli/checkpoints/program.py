"""Files that bring their network: programs of `torch.export`, and ONNX. Nothing in them runs.

`torch.export.load` unpickles, evaluates expressions, compiles source from names and loads shared
libraries. So a program is taken apart first: only tensors and the operations of ATen are allowed,
and what is handed on is an archive written anew.
"""

import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import fx, nn

from ..core.models.wrapped import Program
from ..errors import JeatError, needs
from .control_flow import run_by_python

_NEEDED = re.compile(
    r"archive_(format|version)|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/(weights|constants)/(weight_\d+|tensor_\d+|model(_\w+_config\.json|\.pt))"
    r"|data/sample_inputs/model\.pt"
)
_TEXT = re.compile(r"[\w.:/+-]*")  # names, devices, versions: nothing that could close a quote
_TARGET = re.compile(
    r"torch\.ops\.aten\.(?!(from_file|save|load|_print|warn)\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_(autocast|set_grad_enabled)|cond|while_loop|map_impl|scan)|torch\.sym_(int|max|min|not)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
_SYMBOL = re.compile(r"Symbol\('[a-z]+\d+'(, [a-z]+=(True|False))*\)")
# Never backtracks, which would take for ever on a long number before what is not allowed.
_EXPRESSION = re.compile(
    r"(?:[a-z]{1,4}\d+|(?:Python)?Mod|(?:Floor|Clean|Ceil)Div|Max|Min|Eq|Ne|Le|Lt|Ge|Gt|True|False"
    r"|(?:Strict)?(?:Greater|Less)Than|(?:Une|E)quality|And|Or|Not"
    r"|Add|Mul|Integer|\d{1,12}|\*(?!\*)|[\s()+\-/,<>=])*+"
)


def kind_of(path: Path) -> str | None:
    """Return `exported` or `onnx` for a file that brings its network, else None."""
    if path.suffix.lower() == ".onnx":
        return "onnx"
    with path.open("rb") as handle:
        if handle.read(2) != b"PK":
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError):
        return None
    exported = ("models/", "data/aotinductor/", "serialized_exported_program.json")
    return "exported" if any(name.startswith(exported) for name in names) else None


def read_program(path: Path, kind: str, device: torch.device) -> nn.Module:
    """Return the network that a file brings; refuse one that holds code, or is damaged."""
    if kind == "onnx":
        return _onnx(path)
    graph = _exported(path, device)
    _check_evaluation(path, graph)
    run_by_python(graph)
    return Program(graph)


class _NotAllowed(Exception):
    """Something in a program that could run, in words."""


def _exported(path: Path, device: torch.device) -> nn.Module:
    try:
        with zipfile.ZipFile(path) as archive:
            plain = _rewritten(archive)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            try:
                program = torch.export.load(plain)
            finally:
                logging.disable(logging.NOTSET)
            if device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            return program.module(check_guards=False)
    except _NotAllowed as problem:
        raise JeatError(
            f"`{path}` holds {problem}, which could run code, so it is not read",
            "if you trust its origin, name the function that makes the network with `--arch "
            "FILE.py:FUNCTION`, and give a state dict of its weights",
        ) from problem
    except Exception as problem:
        raise JeatError(
            f"`{path}` cannot be read as an exported program: {_first_line(problem)}",
            f"export it again with torch {torch.__version__}: `torch.export.save`",
        ) from problem


def _check_evaluation(path: Path, graph: nn.Module) -> None:
    """Refuse a program that trains: its mode is a part of the graph, so that nothing changes it."""
    parts = [part.graph for part in graph.modules() if isinstance(part, fx.GraphModule)]
    trains = {name for part in parts for node in part.nodes if (name := _training(node))}
    if trains:
        listed = " and ".join(f"`{name}`" for name in sorted(trains))
        raise JeatError(
            f"`{path}` was exported in training mode: {listed} of its graph",
            "export `net.eval()`, with `F.dropout(..., training=self.training)` in its code; a "
            "network that is random on purpose loads by `--arch FILE.py:FUNCTION`",
        )


def _training(node: fx.Node) -> str:
    """Return the name of a normalisation or dropout in training mode; empty for anything else."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not re.search("batch_norm|dropout", schema.name):
        return ""
    given = {each.name: each.default_value for each in schema.arguments}
    given |= dict(zip(given, node.args, strict=False)) | node.kwargs
    # Without running statistics a normalisation has one mode, and without a share dropout none.
    idle = given.get("running_mean") is None if "norm" in schema.name else given.get("p") == 0
    trains = given.get("train", given.get("training")) is True
    return str(schema.name).partition("::")[2] if trains and not idle else ""


def _first_line(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0][:200]}"


def _rewritten(archive: zipfile.ZipFile) -> io.BytesIO:
    """Return an archive of what is needed of another one, its program checked."""
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise _NotAllowed("two entries of the same name")
    if "serialized_exported_program.json" in names:
        raise ValueError("it has the format of torch before 2.8")
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as clean:
        for name in names:
            inside = name.partition("/")[2]
            content = archive.read(name)
            if inside.startswith("extra/"):
                continue
            if not _NEEDED.fullmatch(inside):
                raise _NotAllowed(f"`{inside}`")
            if inside.endswith(".json"):
                content = json.dumps(_checked_json(json.loads(content))).encode()
            elif inside.endswith(".pt") and content:
                try:
                    torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                except Exception as problem:
                    raise _NotAllowed(f"more than tensors in `{inside}`") from problem
            clean.writestr(f"model/{inside}", content)
    plain.seek(0)
    return plain


def _checked_json(value: object, key: str = "") -> object:
    """Return a part of a program without what only describes it, or refuse it."""
    if isinstance(value, dict):
        if value.get("use_pickle"):
            raise _NotAllowed("pickled weights")
        for name in value:
            _check_text(name, "name")
        return {
            name: _blank(item) if name in ("metadata", "guards_code") else _checked_json(item, name)
            for name, item in value.items()
            # Devices are the reader's: a program may have been exported on a GPU.
        } | ({"type": "cpu", "index": None} if set(value) == {"type", "index"} else {})
    if isinstance(value, list):
        return [_checked_json(item, key) for item in value]
    if isinstance(value, str):
        _check_text(value, key)
    return value


def _blank(value: object) -> object:
    return type(value)() if isinstance(value, dict | list) else None


def _check_text(text: str, key: str) -> None:
    if key in ("in_spec", "out_spec"):
        for part in _strings(json.loads(text)):
            _check_text(part, "context")
    elif key == "context":
        if "__enum__" in text or not re.fullmatch(r"[\w.\s\[\]\",]*", text):
            raise _NotAllowed(f"the structure `{text[:60]}`")
    elif key == "expr_str":
        if not _EXPRESSION.fullmatch(_SYMBOL.sub("s0", text)):
            raise _NotAllowed(f"the expression `{text[:60]}`")
    elif key == "target" and not _TARGET.fullmatch(text):
        raise _NotAllowed(f"the operation `{text[:60]}`")
    elif not _TEXT.fullmatch(text):
        raise _NotAllowed(f"the name `{text[:60]}`")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def _onnx(path: Path) -> nn.Module:
    with needs("onnx2torch", "onnx", f"the ONNX program `{path}`"):
        import onnx2torch
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = onnx2torch.convert(path)
    except Exception as problem:
        if _onnx_trains(path):
            raise JeatError(
                f"`{path}` was exported in training mode",
                "export `net.eval()`, without `training=`",
            ) from problem
        if "should be stored in" in str(problem):
            raise JeatError(
                f"`{path}` lacks the file of its weights: {_first_line(problem)}",
                "copy or download that file too, into the directory of the program",
            ) from problem
        raise JeatError(
            f"`{path}` cannot be read as an ONNX program: {_first_line(problem)}",
            "export it again with a lower opset: `torch.onnx.export(..., opset_version=13, "
            "dynamo=False)`, or take the state dict and `--arch FILE.py:FUNCTION`",
        ) from problem
    # onnx2torch's slices; torch says so at the first pass, which is long after.
    warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
    return network


def _onnx_trains(path: Path) -> bool:
    """Tell whether a normalisation in an ONNX file also returns statistics, as in training."""
    import onnx

    try:
        nodes = onnx.load(path, load_external_data=False).graph.node
    except Exception:  # a damaged file, of which onnx raises errors of any kind
        return False
    return any(node.op_type == "BatchNormalization" and len(node.output) > 1 for node in nodes)
