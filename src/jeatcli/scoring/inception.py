"""The 2015 Inception network, by whose features the published scores are taken."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from ..errors import JeatError
from ..runtime import download
from ..runtime.distributed import current
from ..runtime.files import cache_dir, expand
from ..runtime.progress import SILENT, Reporter

FILE = "weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# Two releases of the same file, byte for byte: torch-fidelity's and pytorch-fid's.
MIRRORS = (
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
)
_WHERE = f"`{FILE}` is at {MIRRORS[0]}"
_INSTEAD = ", name it with `--inception-weights`, or score with `--features RUN`"
# The last pooling, and the logits without their bias, as the published scores take them.
LAYERS = ("2048", "logits_unbiased")


@dataclass(frozen=True)
class Inception:
    """The network with the weights of a file; it maps uint8 images to the outputs of `LAYERS`."""

    path: Path
    sha256: str
    net: Any


def load_inception(explicit: Path | str | None = None, reporter: Reporter = SILENT) -> Inception:
    """Return the network: of the file `explicit`, or the published one, downloaded once.

    The published file is checked against its SHA-256; an explicit one may be another conversion
    of the network, and its checksum goes into the protocol.
    """
    if explicit is None:
        path = current().main_first(partial(_fetch, reporter))
    else:
        path = expand(explicit)
        if not path.is_file():
            raise JeatError(f"there is no Inception weights file `{path}`", _WHERE)
    return _read(path)


def _fetch(reporter: Reporter) -> Path:
    folder = cache_dir() / "inception"
    return download.fetch(FILE, MIRRORS, SHA256, folder, reporter, instead=_INSTEAD)


def _read(path: Path) -> Inception:
    """Build the network from a file that holds weights and no code.

    torch-fidelity unpickles without restriction, so it gets the checked bytes instead of a path
    that could lead elsewhere by then.
    """
    import torch
    from torch_fidelity import FeatureExtractorInceptionV3

    try:
        content = path.read_bytes()
        weights = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        checked = BytesIO()
        torch.save(weights, checked)
        checked.seek(0)
        net = FeatureExtractorInceptionV3(
            "inception", list(LAYERS), feature_extractor_weights_path=checked
        )
    except Exception as problem:
        reason = " ".join(str(problem).split())[:160]
        raise JeatError(
            f"`{path}` does not hold the weights of the 2015 Inception network: {reason}",
            _WHERE,
        ) from None
    net = net.eval().requires_grad_(False)
    return Inception(path, hashlib.sha256(content).hexdigest(), net)
