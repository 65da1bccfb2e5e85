"""Data sets that are absent, damaged or unfit are told with the fix."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import (
    everything,
    here,
    refused,
    untouched,
)
from PIL import Image

LATEST = "digits-jeat-small"
SEED = 5


FOLDER = (
    *("--method", "standard", "--arch", "small", "--epochs", "1", "--batch-size", "4"),
    *("--sample-every", "0", "--eval-every", "0"),
)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Refuse every connection; return the directory of data sets."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # a port on which nobody listens
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        yield tmp_path / "jeat-data"


@pytest.mark.parametrize(
    ("name", "file", "address"),
    [
        ("cifar10", "cifar-10-python.tar.gz", "https://zenodo.org/records/15602362/"),
        ("cifar100", "cifar-100-python.tar.gz", "https://www.cs.toronto.edu/"),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz", "https://ossci-datasets"),
        ("svhn", "train_32x32.mat", "http://ufldl.stanford.edu/"),
    ],
)
def test_a_data_set_that_is_absent_offline(
    offline: Path, tmp_path: Path, name: str, file: str, address: str
) -> None:
    said = here("train", "--dataset", name, "--arch", "small", "--epochs", 1)
    place = (offline / file).parent
    refused(said, 1, f"Error: `{offline / file}` is missing", f"into `{place}`, from ", address)
    assert "Hint: put the file with MD5 " in said.stderr
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_half_downloaded_archive(offline: Path, tmp_path: Path, share: float) -> None:
    offline.mkdir()
    archive = offline / "cifar-10-python.tar.gz"
    archive.write_bytes(gzip.compress(os.urandom(4000))[: round(share * 4000)])
    with untouched(tmp_path):
        said = here("train", "--dataset", "cifar10", "--arch", "small", "--epochs", 1)
    refused(said, 1, f"`{archive}` is damaged (", "with MD5 ", "Hint: put the file with MD5")


def test_a_damaged_folder_of_a_data_set(offline: Path, tmp_path: Path) -> None:
    folder = offline / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"half")
    with untouched(tmp_path):
        said = here("train", "--dataset", "cifar10", "--arch", "small", "--epochs", 1)
    refused(said, 1, "data_batch_1` is damaged (MD5 ", f"Hint: delete `{folder}` and run again")


@pytest.mark.parametrize("packed", [True, False])
def test_damaged_files_of_mnist(offline: Path, tmp_path: Path, packed: bool) -> None:
    raw = offline / "MNIST" / "raw"
    raw.mkdir(parents=True)
    content = b"\0\0\x08\x03" + bytes(90)
    path = raw / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content)[:-9] if packed else content)
    with untouched(tmp_path):
        said = here("train", "--dataset", "mnist", "--arch", "small", "--epochs", 1)
    refused(said, 1, f"Error: `{path}` is damaged (", "Hint: ")


def test_inception_weights_that_are_absent_offline(home: Path, offline: Path) -> None:
    with untouched(home):
        said = here("score", LATEST, "-n", 4)
    refused(said, 1, "weights-inception", "is missing", "put the file with SHA-256", "--features")


def png(number: int, size: tuple[int, int] = (12, 10)) -> bytes:
    """Return a picture of its own for each number; with this seed some of a zoo are for testing."""
    held = io.BytesIO()
    noise = np.random.default_rng((SEED, number)).integers(0, 256, size[::-1], np.uint8)
    Image.fromarray(noise).save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Return a folder of two classes of six pictures."""
    for first, name in enumerate(("cat", "dog")):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        for k in range(6):
            (tmp_path / "zoo" / name / f"{k}.png").write_bytes(png(6 * first + k))
    return tmp_path / "zoo"


def spoil(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda zoo: (zoo / name).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "error", "hint"),
    [
        (
            lambda zoo: shutil.rmtree(zoo / "dog"),
            "zoo` needs at least two directories, one per class, and has only `cat`",
            "put the pictures of each class into a directory of its own",
        ),
        (
            lambda zoo: [each.unlink() for each in (zoo / "dog").iterdir()],
            "class `dog` has no picture",
            "put pictures there",
        ),
        (
            spoil("dog/3.png", b"no"),
            "dog/3.png` is not a readable picture",
            "repair or remove the file",
        ),
        (
            spoil("dog/3.png", png(0)[:80]),
            "dog/3.png` is not a readable picture",
            "repair or remove",
        ),
        (
            spoil("dog/3.png", png(0, (12, 11))),
            "pictures of different sizes: `",
            "`--dataset folder:PATH@64`",
        ),
        (
            lambda zoo: (zoo / "dog").rename(zoo / " "),
            "a directory in `",
            "zoo` has a blank name, ` `",
        ),
        (shutil.rmtree, "zoo` is not a directory", "write `folder:PATH` with an existing PATH"),
    ],
    ids=[
        "one class",
        "an empty class",
        "no picture",
        "cut short",
        "mixed sizes",
        "a blank name",
        "absent",
    ],
)
def test_a_folder_that_cannot_be_used(
    zoo: Path, tmp_path: Path, damage: Callable[[Path], object], error: str, hint: str
) -> None:
    damage(zoo)
    with untouched(tmp_path):
        refused(here("train", "--dataset", f"folder:{zoo}", *FOLDER), 1, error, "Hint: ", hint)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 but not for long"])
def test_images_that_cannot_be_scored(home: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.npz").write_bytes(content)
    said = here("score", tmp_path / "images.npz", "--features", LATEST)
    refused(
        said, 1, "cannot read images from `", "not an .npz archive", "Hint: it must hold `arr_0`"
    )
    absent = here("score", tmp_path / "absent.npz", "--features", LATEST)
    refused(absent, 1, "absent.npz`: there is no such file")


def test_class_names_are_near_too(home: Path, zoo: Path) -> None:
    run = here("train", "--dataset", f"folder:{zoo}", *FOLDER).stdout.strip()
    for option in (["sample", run, "--class"], ["attack", run, "--target"]):
        refused(here(*option, "dgo"), 2, "Error: unknown class `dgo`", "did you mean `dog`?")
