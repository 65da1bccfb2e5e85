"""The published networks whose features torch-fidelity scores by: Inception, DINOv2 and CLIP."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ..errors import JeatError
from ..runtime import devices, download
from ..runtime.distributed import current
from ..runtime.files import cache_dir, expand
from ..runtime.progress import SILENT, Reporter
from .settings import EXTRACTORS


@dataclass(frozen=True)
class Extractor:
    """A network with the weights of a file; it maps uint8 images to what `layers` name.

    Features come first; logits, if the network has them, second.
    """

    name: str
    path: Path
    sha256: str
    net: Any
    layers: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(next(self.net.parameters()).device)

    def images_at_once(self, most: int = 64) -> int:
        """Return a default batch size; it enlarges images to 224x224 and more."""
        return min(most, 64)


def named(features: object) -> tuple[str, str | None] | None:
    """Return the network and the file that `NAME` or `NAME:FILE` stands for; None for a run."""
    name, _, file = str(features).partition(":")
    return (name, file or None) if isinstance(features, str) and name in EXTRACTORS else None


def load_extractor(
    name: str, explicit: Path | str | None = None, device: str = "auto", reporter: Reporter = SILENT
) -> Extractor:
    """Return a network: of the file `explicit`, or the published one, downloaded once.

    The published file is checked against its SHA-256; an explicit one may be another, and its
    checksum goes into the protocol.

    Raises:
        JeatError: If there is no such file, or it holds something else.
    """
    entry = EXTRACTORS[name]
    where = f"`{entry.file}` is at {entry.mirrors[0]}"
    if explicit is None:
        path = current().main_first(partial(_fetch, name, reporter))
    else:
        path = expand(explicit)
        if not path.is_file():
            raise JeatError(f"there is no file `{path}` with the weights of {entry.summary}", where)
    try:
        # One read: what is checked is what is used.
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        net = entry.load()(content, published=sha256 == entry.sha256)
    except JeatError:
        raise
    except Exception as problem:
        reason = " ".join(str(problem).split())[:160]
        if isinstance(problem, KeyError):
            reason = f"it has no {reason}"
        if isinstance(problem, UnpicklingError):  # which recommends to run what is in the file
            reason = "it holds more than tensors"
        raise JeatError(
            f"`{path}` does not hold the weights of {entry.summary}: {reason}", where
        ) from None
    net = net.eval().requires_grad_(False).to(devices.pick(device))
    return Extractor(name, path, sha256, net, tuple(net.features_list))


def _fetch(name: str, reporter: Reporter) -> Path:
    entry, folder = EXTRACTORS[name], cache_dir() / name
    named = name == "inception"
    option = "with `--inception-weights`" if named else f"as `--features {name}:FILE`"
    instead = f", name it {option}, or score with `--features RUN`"
    return download.fetch(
        entry.file, entry.mirrors, entry.sha256, folder, reporter, instead=instead
    )
