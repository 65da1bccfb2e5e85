"""Files and directories of other libraries are named for what they are, with the way out."""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import PLAIN, X, is_ours, load, net, weights, written
from helpers.cli import here, refused
from torch import nn

from jeatcli import Foreign, JeatError
from jeatcli.errors import UsageProblem


def zipped(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, "x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words", "way"),
    [
        ("theirs.pt", bz2.compress(b"x"), "is compressed by bzip2", "unpack it"),
        ("theirs.pt.xz", lzma.compress(b"x"), "is compressed by xz", "unpack it"),
        ("theirs.zst", b"\x28\xb5\x2f\xfd" + 99 * b"x", "is compressed by Zstandard", "unpack it"),
        ("theirs.7z", b"7z\xbc\xaf\x27\x1c" + 99 * b"x", "is a 7z archive", "unpack it"),
        ("theirs.rar", b"Rar!\x1a\x07" + 99 * b"x", "is a RAR archive", "unpack it"),
        ("theirs.gguf", b"GGUF" + 99 * b"\3", "is a GGUF file", "load it where it was made"),
        ("theirs.tflite", b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite", "load it where"),
        ("theirs.keras", zipped("model.weights.h5"), "is a network of Keras", "load it where"),
        ("theirs.msgpack", b"\x81" + bytes(99), "is a checkpoint of Flax", "load it where"),
        ("theirs.pb", b"\x08\1" + bytes(99), "is a program of TensorFlow", "load it where"),
        ("theirs.index", bytes(99), "is the index of a TensorFlow", "load it where"),
        ("theirs.mlmodel", b"\x08\5" + bytes(99), "is a Core ML program", "load it where"),
        ("theirs.bin", b"\xef\xbb\xbf<!DOCTYPE html>", "is a web page", "download it again"),
        ("theirs.safetensors", b"Entry not found", "is not a jeat", "or download it anew"),
    ],
)
def test_files(tmp_path: Path, name: str, content: bytes, words: str, way: str) -> None:
    (path := tmp_path / name).write_bytes(content)
    refused(here("attack", path), 1, f"`{path}` is ", words, way)


@pytest.mark.parametrize(
    ("name", "words", "way"),
    [
        ("__0_0.distcp", "a distributed checkpoint of PyTorch", "dcp_to_torch {} weights.pt"),
        ("saved_model.pb", "a program of TensorFlow", "save a dictionary of tensors"),
        ("ckpt-1.index", "a checkpoint of TensorFlow", "save a dictionary of tensors"),
        ("flax_model.msgpack", "a checkpoint of Flax", "save a dictionary of tensors"),
        ("_CHECKPOINT_METADATA", "a checkpoint of Orbax", "save a dictionary of tensors"),
    ],
)
def test_directories(tmp_path: Path, name: str, words: str, way: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    refused(here("attack", tmp_path), 1, f"(it is {words})", way.format(tmp_path))


def test_a_state_dict_in_a_list(tmp_path: Path) -> None:
    is_ours(load(written(tmp_path, (weights(), {"epoch": 3}))))
    path = written(tmp_path, [{k: v + 1 for k, v in weights().items()}, weights()])
    with pytest.raises(UsageProblem, match="several state dicts: `0`, `1`"):
        load(path)
    is_ours(load(path, Foreign("wrn-10-1", "digits", (0.0,), (1.0,), entry="1")))


@pytest.mark.filterwarnings("ignore")
def test_quantised_layers_are_named(tmp_path: Path) -> None:
    layers = torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}, dtype=torch.qint8)
    layers(X)
    with pytest.raises(JeatError, match="does not fit") as caught:
        load(written(tmp_path, layers.state_dict()), PLAIN)
    assert "its layers are quantised" in str(caught.value.hint)
