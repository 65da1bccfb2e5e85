"""What training scripts save beside the weights, and in which kinds of file it arrives."""

from __future__ import annotations

import argparse
import datetime
import io
import pickle
import tarfile
import zipfile
from collections import Counter, defaultdict, deque
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.checkpoints import PLAIN, is_ours, load, weights, written
from helpers.cli import here, refused
from helpers.runs import Listener

from jeatcli.checkpoints import checkpoint
from jeatcli.errors import JeatError, UsageProblem

ASKED = replace(PLAIN, mean=None, std=None)


@pytest.mark.parametrize("protocol", [2, 4])
def test_harmless_objects_beside_a_number_of_numpy(tmp_path: Path, protocol: int) -> None:
    """torch's own reader knows some of them, but does not know numpy's number."""
    rate = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    content = {
        "state_dict": defaultdict(int, weights()),
        "best_acc": np.float64(81.5),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(rate, [100, 150]).state_dict(),
        "args": argparse.Namespace(device=torch.device("cuda:0"), dtype=torch.half),
        "config": SimpleNamespace(crop=slice(4), seeds=range(3)),
        "classes": {"cat", "dog"},
        "frozen": frozenset([1]),
        "hits": Counter("ab"),
        "window": deque([1.0, 2.0], 9),
        "date": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        "took": datetime.timedelta(1),
        "out": PurePosixPath("out"),
        "torch": torch.__version__,
        "root": 1j,
        "bytes": bytearray(b"abc"),
    }
    path = tmp_path / "theirs.pt"
    torch.save(content, path, pickle_protocol=protocol)
    is_ours(load(path))


def test_a_weight_that_is_an_array_of_numpy_is_named(tmp_path: Path) -> None:
    """Without it the others might fit a network without normalisation."""
    mixed: dict[str, Any] = weights()
    mixed["bn1.running_mean"] = mixed["bn1.running_mean"].numpy()
    with pytest.raises(JeatError, match=r"holds `bn1\.running_mean`, which is a NumPy array"):
        load(written(tmp_path, mixed))


@pytest.mark.parametrize(
    ("beside", "shown"),
    [
        ({"mu": torch.tensor([0.5]).view(1, 1, 1, 1), "sigma": torch.tensor([0.2])}, "--mean 0.5"),
        ({"config": {"data_mean": [0.5], "data_std": [0.2]}}, "--std 0.2"),
        ({"args": argparse.Namespace(mean=[0.5], std=[0.2])}, "--mean 0.5"),
        ({"mean": np.array([0.5]), "std": np.array([0.2])}, "as NumPy arrays"),
    ],
    ids=["mu", "data", "arguments", "arrays"],
)
def test_a_normalisation_beside_the_weights_is_asked_for(
    tmp_path: Path, beside: dict[str, Any], shown: str
) -> None:
    path = written(tmp_path, {"state_dict": weights(), **beside})
    with pytest.raises(UsageProblem, match="records a normalisation, ") as found:
        load(path, ASKED)
    assert shown in found.value.message
    assert "which its network may not apply" in found.value.message
    is_ours(load(path))


def test_numbers_of_callbacks_are_no_networks(tmp_path: Path) -> None:
    said = Listener()
    beside = {"callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9)}}}
    load(written(tmp_path, {"state_dict": weights(), **beside}), reporter=said)
    assert not any("--entry" in line for line in said.said)
    is_ours(load(written(tmp_path, {"of_mine": weights(), **beside})))


def test_archives_are_named(tmp_path: Path) -> None:
    inside = written(tmp_path, weights())
    packed = tmp_path / "theirs.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(inside, "weights/theirs.pt")
    rolled = tmp_path / "theirs.tar"
    with tarfile.open(rolled, "w") as tar:
        tar.add(inside, "theirs.pt")
    squeezed = tmp_path / "theirs.tar.gz"
    with tarfile.open(squeezed, "w:gz") as tar:
        tar.add(inside, "theirs.pt")
    for path, kind, way in (
        (packed, "a zip archive of other files", "unpack it"),
        (rolled, "a tar archive", "unpack it"),
        (squeezed, "compressed by gzip", "unpacked"),
    ):
        refused(here("attack", path), 1, f"`{path}` is {kind}, not a state dict", way)


def test_a_pickle_without_torch_is_read_by_pickle(tmp_path: Path) -> None:
    """`torch.load` does not read it, so the line of the hint does not call that."""
    path = tmp_path / "theirs.pkl"
    path.write_bytes(pickle.dumps({"model": weights()}))
    said = here("attack", path)
    line = f'torch.save(pickle.load(open("{path}", "rb"))["state_dict"], "weights.pt")'
    refused(said, 1, "holds more than tensors", line)
    assert "model" in pickle.load(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize("address", ["s3://bucket/theirs.pt", "file:///data/theirs.pt"])
def test_an_address_is_no_path(address: str) -> None:
    with pytest.raises(JeatError) as caught:
        checkpoint.load(address)
    assert "download the file" in str(caught.value.hint)
