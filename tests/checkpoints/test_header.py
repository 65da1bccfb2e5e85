"""A header is checked field by field before anything is built of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import here, refused, untouched
from helpers.runs import save_run
from safetensors.torch import load_file, save_file

from jeatcli.checkpoints import checkpoint
from jeatcli.checkpoints.header import NotOurs, read_header
from jeatcli.errors import JeatError

VERBS = (("attack",), ("sample",), ("landscape",), ("score", "--calibration"))


@pytest.fixture
def run() -> Path:
    """Return the model file of a run."""
    return save_run("run")


def rewrite(path: Path, jeat: str | None = None, **changes: Any) -> None:
    """Put other values into the header of a model, or another text in its place."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    meta = json.loads(header["__metadata__"]["jeat"]) | {"digest": None}
    for key, value in changes.items():
        if value is ...:
            del meta[key]
        else:
            meta[key] = value
    header["__metadata__"]["jeat"] = jeat if jeat is not None else json.dumps(meta)
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + content[8 + length :])


DAMAGES: list[tuple[dict[str, Any], str]] = [
    ({"arch": 3}, "`arch` cannot be '3'"),
    ({"arch": "no-such"}, "unknown architecture `no-such`"),
    ({"arch": "wrn-9999999-1"}, "unknown architecture"),
    ({"dataset": None}, "`dataset` cannot be 'None'"),
    ({"dataset": "cifar11"}, "unknown data set `cifar11`"),
    ({"norm_layer": None}, "`norm_layer` cannot be"),
    ({"norm_layer": "layer"}, "`norm_layer` cannot be 'layer'"),
    ({"activation": "gelu"}, "`activation` cannot be"),
    ({"options": None}, "`options` cannot be"),
    ({"options": {"eps": [1]}}, "`options` cannot be"),
    ({"options": {"eps": "x", "norm": "linf"}}, "`eps` of `options` cannot be 'x'"),
    ({"options": {"eps": 0.1}}, "no valid `norm` beside `eps`"),
    ({"options": {"eps": 0.1, "norm": "l7"}}, "no valid `norm` beside `eps`"),
    ({"options": {"sgld_step_size": "x"}}, "`sgld_step_size` of `options` cannot be 'x'"),
    ({"options": {"sgld_noise": -1}}, "`sgld_noise` of `options` cannot be '-1'"),
    ({"options": {"chain_steps": None}}, "`chain_steps` of `options` cannot be 'None'"),
    ({"shape": [1, 8]}, "`shape` cannot be"),
    ({"shape": "188"}, "`shape` cannot be"),
    ({"shape": [1, 8, True]}, "`shape` cannot be"),
    ({"shape": [1, 8, 0]}, "`shape` cannot be"),
    ({"shape": [1, 10**9, 10**9]}, "`shape` cannot be"),
    ({"classes": []}, "`classes` cannot be"),
    ({"classes": ["a", " "]}, "`classes` cannot be"),
    ({"classes": [1] * 10}, "`classes` cannot be"),
    ({"mean": ["x"]}, "`mean` cannot be"),
    ({"mean": [0.5, 0.5]}, "`mean` cannot be"),
    ({"mean": [float("nan")]}, "`mean` cannot be"),
    ({"std": [0.0]}, "`std` cannot be"),
    ({"epoch": ...}, "`epoch` is missing"),
    ({"epoch": -1}, "`epoch` cannot be"),
    ({"epochs": 1.5}, "`epochs` cannot be"),
    ({"seed": 2**70}, "`seed` cannot be"),
    ({"finished": "yes"}, "`finished` cannot be"),
    ({"method": 0}, "`method` cannot be"),
]


@pytest.mark.parametrize(("changes", "words"), DAMAGES, ids=lambda each: str(each)[:40])
def test_fields(run: Path, changes: dict[str, Any], words: str) -> None:
    rewrite(run, **changes)
    with pytest.raises(JeatError) as caught:
        checkpoint.load(run, device="cpu")
    assert caught.value.message.startswith(f"the header of `{run}` is damaged: ")
    assert words in caught.value.message
    assert str(caught.value.hint).startswith("copy the file again")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_every_verb(run: Path, verb: tuple[str, ...]) -> None:
    rewrite(run, norm_layer=None)
    with untouched(run.parent):
        refused(here(verb[0], "run", *verb[1:]), 1, "is damaged: `norm_layer` cannot be", "Hint: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "[" * 100_000,
        '{"schema": Infinity}',
        '{"schema": NaN}',
        '{"schema": "1"}',
        '{"schema": true}',
        '{"schema": 0}',
        '{"schema": ' + "9" * 5000 + "}",
    ],
    ids=lambda text: text[:14],
)
def test_texts_that_are_no_header(run: Path, text: str) -> None:
    rewrite(run, text)
    with pytest.raises(JeatError, match=r"is not a jeat checkpoint"):
        read_header(run)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"a": {"data_offsets": ["0", "4"]}}',
        b'{"a": {"data_offsets": [0]}}',
        b'{"a": {"data_offsets": [4, 0]}}',
        b'{"a": {"data_offsets": null}}',
        b'{"a": 3}',
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"jeat": 3}}',
        b"3",
        b"\xff\xfe",
    ],
    ids=lambda header: repr(header[:30]),
)
def test_headers_of_safetensors(run: Path, header: bytes) -> None:
    run.write_bytes(struct.pack("<Q", len(header)) + header + bytes(100))
    with pytest.raises(JeatError, match=r"is not a jeat checkpoint") as caught:
        read_header(run)
    assert not isinstance(caught.value, NotOurs)


def test_what_a_later_version_adds_is_passed_over(run: Path) -> None:
    rewrite(run, novelty=[1, {"a": 2}])
    assert checkpoint.load(run, device="cpu").meta.arch == "small"


def change(path: Path, name: str, tensor: torch.Tensor | None) -> None:
    """Put another tensor into a model, or take one out of it."""
    tensors, text = load_file(path), json.dumps(read_header(path) | {"digest": None})
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    save_file(tensors, path, {"jeat": text})


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("statistics.mean", torch.zeros(3, 1, 8, 8), "class statistics"),
        ("statistics.mean", torch.zeros(10, 8, 8), "class statistics"),
        ("statistics.factor", torch.zeros(10, 1, 8, 8), "class statistics"),
        ("statistics.factor", torch.zeros(10, 1, 1, 8, 9), "class statistics"),
        ("statistics.ridge", torch.zeros(()), "class statistics"),
        ("statistics.ridge", torch.full((10,), -1.0), "class statistics"),
        ("statistics.ridge", torch.zeros(10, dtype=torch.int64), "class statistics"),
        ("statistics.ridge", None, "class statistics"),
        ("classifier.net.head.bias", None, "is missing"),
        ("classifier.normalize.mean", torch.zeros(2), "`classifier.normalize.mean` is 2 of"),
        ("classifier.normalize.mean", torch.zeros(1, 1, 1, 1).long(), "of torch.int64"),
        ("classifier.normalize.mean", torch.zeros(1, 1, 1, 1).to(torch.complex64), "complex64"),
        ("classifier.extra", torch.zeros(2), "`extra` is none of its names"),
    ],
    ids=lambda each: str(each)[:30].replace("\n", ""),
)
def test_tensors(run: Path, name: str, tensor: torch.Tensor | None, words: str) -> None:
    names = load_file(run)
    if name == "classifier.net.head.bias":
        name = next(key for key in names if key.endswith("bias"))
    change(run, name, tensor)
    with pytest.raises(JeatError, match=r"does not fit its own header") as caught:
        checkpoint.load(run, device="cpu")
    assert words in caught.value.message
