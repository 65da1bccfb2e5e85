"""Checkpoints of several files and the index that lists them, and directories that hold weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import PLAIN, is_ours, load, weights, written
from helpers.cli import done, here, refused
from safetensors.torch import save_file

from jeatcli.checkpoints import checkpoint
from jeatcli.errors import JeatError

DESCRIBED = ("--arch", "wrn-10-1", "--dataset", "digits", "--mean", "0", "--std", "1")
ONE, TWO = (f"model-0000{k}-of-00002.safetensors" for k in (1, 2))


def sharded(folder: Path, ending: str = "safetensors", prefix: str = "") -> Path:
    """Write weights as two files and an index, as the Hugging Face libraries do."""
    found = weights(prefix=prefix)
    stem = "model" if ending == "safetensors" else "pytorch_model"
    parts = {name: {} for name in (f"{stem}-0000{k}-of-00002.{ending}" for k in (1, 2))}
    one, two = parts
    for count, (key, value) in enumerate(found.items()):
        parts[one if count % 2 else two][key] = value
    for name, part in parts.items():
        if ending == "safetensors":
            save_file(part, folder / name, {"format": "pt"})
        else:
            torch.save(part, folder / name)
    index = folder / f"{stem}.{ending}.index.json"
    places = {key: name for name, part in parts.items() for key in part}
    size = sum(value.nbytes for value in found.values())
    index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": places}))
    return index


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_an_index_and_its_directory(tmp_path: Path, ending: str, prefix: str) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["WideResNet"]}')
    index = sharded(folder, ending, prefix)
    for path in (index, folder):
        is_ours(model := load(path))
        assert (model.name, model.foreign) == ("theirs", True)


def test_every_verb_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = (".", *DESCRIBED, "--device", "cpu")
    done("attack", *run, "-n", "8", "--attack", "fgsm")
    done("sample", *run, "-n", "2", "--steps", "1", "--init", "uniform")
    assert [*Path("model", "samples").iterdir()]
    done("attack", "model.safetensors.index.json", *run[1:], "-n", "8", "--attack", "fgsm")


def test_a_directory_of_one_file(tmp_path: Path) -> None:
    written(tmp_path, weights(), "pytorch_model.bin")
    is_ours(load(tmp_path))
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "epoch=3.ckpt")
    refused(here("attack", tmp_path), 1, "not a run", f"such as `{tmp_path / 'epoch=3.ckpt'}`")


def test_one_of_its_files_names_the_index(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    refused(here("attack", tmp_path / ONE), 1, "is 1 of 2 files", f"name all of them by `{index}`")


def change(index: Path, **places: object) -> None:
    content = json.loads(index.read_text())
    content["weight_map"] |= places
    index.write_text(json.dumps(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda index: (index.parent / TWO).unlink(), f"not beside it: {TWO}"),
        (lambda index: cut(index.parent / TWO), "is cut short"),
        (lambda index: (index.parent / TWO).write_bytes(b""), "is cut short"),
        (lambda index: (index.parent / TWO).write_bytes(b"version https://git"), "Git LFS"),
        (lambda index: index.write_text("{"), "has no `weight_map`"),
        (lambda index: index.write_text('{"weight_map": {}}'), "has no `weight_map`"),
        (lambda index: index.write_text('{"weight_map": [1]}'), "has no `weight_map`"),
        (lambda index: change(index, more=ONE), f"{ONE}` lacks what .* says: more"),
        (lambda index: change(index, **{"fc.bias": ONE, "fc.weight": ONE}), r"lacks what .*: fc\."),
        (lambda index: change(index, **{"fc.bias": "../x"}), r"`\.\./x`, which is no file of its"),
        (lambda index: change(index, **{"fc.bias": "/etc/passwd"}), "which is no file of its dir"),
        (lambda index: change(index, **{"fc.bias": 3}), "`3`, which is no file of its"),
        (lambda index: change(index, **{"fc.bias": ".."}), r"not beside it: \.\."),
        (lambda index: change(index, **{"fc.bias": "config.json"}), "not beside it: config.json"),
    ],
)
def test_what_is_wrong_with_one_is_named(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    index = sharded(tmp_path)
    assert "fc.bias" in json.loads(index.read_text())["weight_map"]
    damage(index)
    for path in (index, tmp_path):
        with pytest.raises(JeatError, match=words) as caught:
            checkpoint.load(path, foreign=PLAIN, device="cpu")
        assert "download" in str(caught.value.hint) or "git lfs pull" in str(caught.value.hint)


def test_a_file_that_is_its_own_index_is_no_loop(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    name = index.name
    index.write_text(json.dumps({"weight_map": {"fc.bias": name}}))
    with pytest.raises(JeatError, match="which is no file of its directory"):
        load(index)


def test_a_file_of_another_save_is_noticed(tmp_path: Path) -> None:
    """One that holds a tensor which the index places in another file."""
    sharded(tmp_path)
    save_file(weights(), tmp_path / TWO)
    with pytest.raises(JeatError, match=f"{TWO}` has besides what"):
        load(tmp_path)


def test_the_index_is_not_taken_for_the_weights_of_a_judge(tmp_path: Path) -> None:
    """Two checkpoints with other weights may have the same index."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    sharded(folder)
    run = (folder, *DESCRIBED, "--device", "cpu", "-n", "20", "--features", folder, "--json")
    features = json.loads(done("score", *run))["protocol"]["features"]
    assert (features["run"], features["sha256"]) == ("theirs", None)
