"""The data sets against independent readings, bad input, and the loader."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import struct
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from jeatcli.data import published
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError, UsageProblem

datasets = pytest.importorskip("torchvision.datasets")


def test_limit_takes_the_first_images() -> None:
    assert torch.equal(
        load_images("digits", "train", limit=7).x, load_images("digits", "train").x[:7]
    )
    for limit in (0, -1, 1401):
        with pytest.raises(UsageProblem, match="which has 1,400"):
            load_images("digits", "train", limit=limit)


def test_an_unknown_name_has_the_nearest() -> None:
    with pytest.raises(UsageProblem) as caught:
        load_images("cifar-10", "train")
    assert "did you mean `cifar10`" in str(caught.value.hint)


@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar10_equals_torchvision(cifar10_root: Path, split: str) -> None:
    images = load_images("cifar10", split, data_dir=cifar10_root, download=False)
    theirs = datasets.CIFAR10(cifar10_root, train=split == "train")
    assert images.x.is_contiguous()
    assert torch.equal(images.x.permute(0, 2, 3, 1), torch.from_numpy(theirs.data))
    assert images.y.tolist() == theirs.targets
    assert images.classes == tuple(theirs.classes)
    assert "dog" in images.classes


@pytest.mark.parametrize(("split", "file"), [("train", "train"), ("test", "t10k")])
def test_mnist_equals_an_independent_reading(mnist_root: Path, split: str, file: str) -> None:
    raw = mnist_root / "MNIST" / "raw"
    images = load_images("mnist", split, data_dir=mnist_root, download=False)
    pixels = gzip.decompress((raw / f"{file}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((raw / f"{file}-labels-idx1-ubyte.gz").read_bytes())
    assert images.shape == (1, 28, 28)
    assert images.x.numpy().tobytes() == pixels[16:]
    assert images.y.tolist() == list(labels[8:])
    assert images.classes == tuple("0123456789")
    theirs = datasets.MNIST(mnist_root, train=split == "train")
    assert torch.equal(images.x[:, 0], theirs.data)


def test_the_data_directory_comes_from_the_environment(
    mnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JEAT_DATA_DIR", str(mnist_root))
    assert len(load_images("mnist", "test", download=False)) == 10_000


@pytest.fixture
def small_fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a Fashion-MNIST of three and two images, packed by another gzip."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    digests = []
    for file, count in (("train", 3), ("t10k", 2)):
        pixels = struct.pack(">4I", 0x803, count, 28, 28) + bytes(range(count)) * 784
        labels = struct.pack(">2I", 0x801, count) + bytes(range(count))
        for kind, content in (("images-idx3", pixels), ("labels-idx1", labels)):
            (raw / f"{file}-{kind}-ubyte.gz").write_bytes(gzip.compress(content, mtime=1))
            digests.append(hashlib.md5(content).hexdigest())
    monkeypatch.setitem(published.RAW_MD5, "FashionMNIST", tuple(digests))
    return raw


def test_fashion_mnist_packed_by_others_is_accepted(small_fashion: Path, tmp_path: Path) -> None:
    images = load_images("fashion-mnist", "train", data_dir=tmp_path, download=False)
    assert images.y.tolist() == [0, 1, 2]
    assert images.classes[9] == "Ankle boot"


def test_a_truncated_gzip_offline(
    small_fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_fashion / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(JeatError, match=r"t10k-labels-idx1-ubyte.gz` is damaged \("):
        load_images("fashion-mnist", "train", data_dir=tmp_path)


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_damaged_raw_file(small_fashion: Path, tmp_path: Path, file: str, whole: bool) -> None:
    load_images("fashion-mnist", "train", data_dir=tmp_path, download=False)
    path = small_fashion / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\7" if whole else content[:-5])
    with pytest.raises(JeatError, match=rf"{file}` is damaged \(MD5 .* should be ") as caught:
        load_images("fashion-mnist", "train", data_dir=tmp_path, download=False)
    assert f"delete `{path}` and `{file}.gz`" in str(caught.value.hint)
    path.unlink()
    assert len(load_images("fashion-mnist", "train", data_dir=tmp_path, download=False)) == 3


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
        ("svhn", "test_32x32.mat"),
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("fashion-mnist", "train-images-idx3-ubyte.gz"),
    ],
)
def test_an_absent_set_offline_says_what_to_put_where(name: str, file: str, tmp_path: Path) -> None:
    with pytest.raises(JeatError) as caught:
        load_images(name, "test", data_dir=tmp_path / "sets", download=False)
    assert f"{file}` is missing" in str(caught.value)
    for part in ("MD5", str(tmp_path / "sets"), "http", "--data-dir", "JEAT_DATA_DIR"):
        assert part in str(caught.value.hint)
    if name.startswith("cifar"):
        assert "extracted folder" in str(caught.value.hint)
    if name == "cifar10":
        assert "zenodo.org/records/15602362" in str(caught.value.hint)
    assert not (tmp_path / "sets").exists()


@pytest.fixture
def little_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve a CIFAR-100 of a few images over HTTP, and yield the served folder."""
    served = tmp_path / "served"
    base = served / "cifar-100-python"
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sums = {}
    for file, count in (("train", 6), ("test", 4)):
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        sums[file] = dump(base / file, {"data": pixels, "fine_labels": list(range(count))})
    sums["meta"] = dump(base / "meta", {"fine_label_names": [f"c{k}" for k in range(100)]})
    archive = served / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, base.name)
    source = datasets.CIFAR100
    monkeypatch.setattr(source, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(source, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": sums["meta"]})
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        monkeypatch.setattr(source, "url", f"http://127.0.0.1:{server.server_port}/{archive.name}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def dump(path: Path, content: object) -> str:
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_an_archive_is_downloaded_extracted_and_read(little_cifar: Path, tmp_path: Path) -> None:
    root = tmp_path / "sets"
    images = load_images("cifar100", "train", data_dir=root)
    assert images.x.shape == (6, 3, 32, 32)
    assert images.y.tolist() == list(range(6))
    assert images.classes[99] == "c99"
    assert sorted(path.name for path in root.iterdir()) == [
        "cifar-100-python",
        "cifar-100-python.tar.gz",
    ]
    # The archive alone is enough the next time, and the folder alone as well.
    shutil.rmtree(root / "cifar-100-python")
    assert torch.equal(load_images("cifar100", "train", data_dir=root, download=False).x, images.x)
    (root / "cifar-100-python.tar.gz").unlink()
    assert torch.equal(load_images("cifar100", "train", data_dir=root, download=False).x, images.x)


def test_a_half_downloaded_archive_is_fetched_anew(little_cifar: Path, tmp_path: Path) -> None:
    root = tmp_path / "sets"
    root.mkdir()
    archive = root / "cifar-100-python.tar.gz"
    archive.write_bytes((little_cifar / archive.name).read_bytes()[:1000])
    with pytest.raises(JeatError, match=r"tar.gz` is damaged \(1,000 bytes"):
        load_images("cifar100", "test", data_dir=root, download=False)
    assert len(load_images("cifar100", "test", data_dir=root)) == 4


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_a_damaged_extracted_file_is_named(file: str, little_cifar: Path, tmp_path: Path) -> None:
    root = tmp_path / "sets"
    load_images("cifar100", "train", data_dir=root)
    path = root / "cifar-100-python" / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JeatError, match="is damaged") as caught:
        load_images("cifar100", "train", data_dir=root)
    assert str(path) in str(caught.value)
    assert f"delete `{path.parent}`" in str(caught.value.hint)
    path.unlink()
    with pytest.raises(JeatError, match=f"{file}` is missing"):
        load_images("cifar100", "train", data_dir=root)


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
    path = tmp_path / "test_32x32.mat"
    scipy_io.savemat(path, {"X": pixels, "y": np.array([[10], [1], [2], [10], [9]], np.uint8)})
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    entry = ["http://127.0.0.1:9/", path.name, md5]
    monkeypatch.setattr(datasets.SVHN, "split_list", {"test": entry})
    images = load_images("svhn", "test", data_dir=tmp_path, download=False)
    assert torch.equal(images.x, torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()))
    assert images.y.tolist() == [0, 1, 2, 0, 9]
    assert images.classes[0] == "0"


def test_a_torchvision_of_another_torch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "torchvision.datasets":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "torchvision.datasets")
    monkeypatch.delattr(sys.modules["torchvision"], "datasets")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(JeatError, match="does not work with the installed torch") as caught:
        load_images("mnist", "test", download=False)
    assert "install both together from one index" in str(caught.value.hint)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr("jeatcli.data.published.published", refuse)
    with pytest.raises(JeatError, match="cannot read `/some/file`: Permission denied"):
        load_images("mnist", "test")
