"""The 2015 Inception network's weights, by which the published scores are taken."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..errors import JeatError
from ..runtime import download
from ..runtime.distributed import current
from ..runtime.files import cache_dir
from ..runtime.progress import SILENT, Reporter

FILE = "weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# Two releases of the same file, byte for byte: torch-fidelity's and pytorch-fid's.
MIRRORS = (
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
)


def weights(given: Path | str | None = None, reporter: Reporter = SILENT) -> Path:
    """Return the weights file: `given`, or the published one, downloaded once into the cache.

    The published file is checked against its SHA-256; a given one may be another conversion of
    the network, and its checksum goes into the protocol.

    Raises:
        JeatError: If it is absent and cannot be had, or holds something else.
    """
    if given is None:
        path = current().main_first(partial(_fetch, reporter))
    else:
        path = Path(given).expanduser()
        if not path.is_file():
            raise JeatError(
                f"there is no Inception weights file `{path}`",
                f"`{FILE}` is at {MIRRORS[0]}",
            )
    _check(path)
    return path


def _fetch(reporter: Reporter) -> Path:
    return download.fetch(
        FILE,
        MIRRORS,
        SHA256,
        cache_dir() / "inception",
        reporter,
        instead=", name it with `--inception-weights`, or score with `--features RUN`",
    )


def _check(path: Path) -> None:
    """Make sure that the file holds this network's weights and no code.

    torch-fidelity unpickles it without restriction, which may run code; what loads as weights
    alone holds none.
    """
    import torch
    from torch_fidelity import FeatureExtractorInceptionV3

    try:
        torch.load(path, map_location="cpu", weights_only=True)
        FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
    except Exception as problem:
        reason = " ".join(str(problem).split())[:160]
        raise JeatError(
            f"`{path}` does not hold the weights of the 2015 Inception network: {reason}",
            f"`{FILE}` is at {MIRRORS[0]}",
        ) from None
