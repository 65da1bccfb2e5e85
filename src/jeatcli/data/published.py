"""The published data sets, read by torchvision from files that we download and verify."""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import JeatError
from ..runtime.digests import checksum
from ..runtime.download import WRITABLE, fetch
from ..runtime.files import replacing
from .facts import NUMERALS, Request
from .folder import Parts

# Asked before torchvision's own address, which is slow and at times away.
MIRRORS = {
    "CIFAR10": ["https://zenodo.org/records/15602362/files/cifar-10-python.tar.gz?download=1"]
}
ELSEWHERE = "; `--data-dir` or `JEAT_DATA_DIR` names another folder of data sets"
# Of the files without their packing, in the order of torchvision's `resources`.
RAW_MD5 = {
    "MNIST": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "FashionMNIST": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}


def published(request: Request) -> Parts:
    """Read a data set in torchvision's layout, after downloading it if it is absent."""
    readers: dict[str, tuple[str, Callable[[Any, Request], Parts]]] = {
        "cifar10": ("CIFAR10", _cifar),
        "cifar100": ("CIFAR100", _cifar),
        "svhn": ("SVHN", _svhn),
        "mnist": ("MNIST", _mnist),
        "fashion-mnist": ("FashionMNIST", _mnist),
    }
    class_name, read = readers[request.name]
    return read(_torchvision(class_name), request)


def _torchvision(class_name: str) -> Any:
    try:
        import torchvision.datasets as datasets
    except (ImportError, OSError, RuntimeError) as problem:
        # A torchvision built for another torch fails with "operator torchvision::nms does not
        # exist", which does not say what to do.
        raise JeatError(
            f"torchvision {metadata.version('torchvision')} does not work with the installed torch "
            f"{torch.__version__}: {problem}",
            "install both together from one index: "
            "`pip install --upgrade --force-reinstall torch torchvision`",
        ) from problem
    return getattr(datasets, class_name)


def _cifar(source: Any, request: Request) -> Parts:
    folder = request.root / source.base_folder
    if not folder.is_dir():
        urls = [*MIRRORS.get(source.__name__, []), source.url]
        instead = f", or its extracted folder as `{folder}`{ELSEWHERE}"
        archive = _fetch(request, request.root, source.filename, urls, source.tgz_md5, instead)
        request.reporter.say(f"extracting `{archive}`")
        _extract(archive, folder)
    data = _read_cifar(source, folder, request)
    pixels = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
    return torch.from_numpy(pixels), torch.tensor(data.targets), tuple(data.classes)


def _read_cifar(source: Any, folder: Path, request: Request) -> Any:
    """Let torchvision check the checksums of all files and read; name the file that is wrong."""
    try:
        return source(request.root, train=request.split == "train")
    except RuntimeError as problem:
        meta = (source.meta["filename"], source.meta["md5"])
        for name, md5 in (*source.train_list, *source.test_list, meta):
            path = folder / name
            if not path.is_file():
                trouble = f"`{path}` is missing"
            elif (digest := checksum(path, "md5")) != md5:
                trouble = f"`{path}` is damaged (MD5 {digest}, which should be {md5})"
            else:
                continue
            raise JeatError(
                trouble, f"delete `{folder}` and run again, to recreate it{ELSEWHERE}"
            ) from problem
        raise


def _fetch(
    request: Request, folder: Path, name: str, urls: list[str], md5: str, instead: str = ELSEWHERE
) -> Path:
    reporter, download = request.reporter, request.download
    return fetch(name, urls, md5, folder, reporter, download=download, instead=instead)


def _extract(archive: Path, folder: Path) -> None:
    """Put the content of the directory `folder.name` of `archive` at `folder`, all or nothing."""

    def inside(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        top, _, rest = member.name.partition("/")
        if top != folder.name or not rest:
            return None
        return tarfile.data_filter(member.replace(name=rest), path)

    with replacing(folder, WRITABLE) as part, tarfile.open(archive) as tar:
        part.mkdir()
        tar.extractall(part, filter=inside)


def _svhn(source: Any, request: Request) -> Parts:
    url, name, md5 = source.split_list[request.split]
    _fetch(request, request.root, name, [url], md5)
    data = source(request.root, split=request.split)
    pixels = np.ascontiguousarray(data.data)
    return torch.from_numpy(pixels), torch.from_numpy(data.labels), NUMERALS


def _mnist(source: Any, request: Request) -> Parts:
    raw = request.root / source.__name__ / "raw"
    for (name, md5), content_md5 in zip(source.resources, RAW_MD5[source.__name__], strict=True):
        path = raw / Path(name).stem
        archive = raw / name
        if not path.is_file():
            if archive.is_file() and _is_whole(archive):
                # Distributions pack the same content anew, with another checksum.
                request.reporter.say(f"using `{archive}`")
            else:
                _fetch(request, raw, name, [mirror + name for mirror in source.mirrors], md5)
            with (
                replacing(path, WRITABLE) as part,
                gzip.open(archive) as packed,
                part.open("wb") as sink,
            ):
                shutil.copyfileobj(packed, sink)
        if (digest := checksum(path, "md5")) != content_md5:
            both = f"`{path}` and `{archive.name}`" if archive.is_file() else "it"
            raise JeatError(
                f"`{path}` is damaged (MD5 {digest}, which should be {content_md5})",
                f"delete {both} and run again, to recreate it{ELSEWHERE}",
            )
    data = source(request.root, train=request.split == "train")
    classes = NUMERALS if source.__name__ == "MNIST" else tuple(source.classes)
    return data.data.unsqueeze(1), data.targets, classes


def _is_whole(archive: Path) -> bool:
    """Tell whether a gzip file ends where it should and has the content that was packed."""
    try:
        with gzip.open(archive) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True
