"""Files as public code writes them, and what becomes of each.

    PYTHONPATH=tests python -m helpers.checkpoint_matrix [WORD ...]

makes each file, whose name has one of the words in it, loads it by the options of one command, and
prints `equal` (logits to 1e-4), `wrong`, or the refusal. No file is downloaded: networks are those
of `public_networks` and `foreign_networks` with random weights, wide ones by narrow twins.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from jeatcli import Foreign, JeatError, load

from . import foreign_networks, public_networks
from .checkpoint_layouts import Layout

CODE = str(Path(foreign_networks.__file__))
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


@dataclass(frozen=True)
class Row:
    """A file, and what is expected of it.

    Args:
        name: The case.
        network: A key of `PUBLIC`, or a name of `foreign_networks`.
        layout: Of its weights.
        foreign: What the user says of it; the network's own by default.
        verdict: `equal`, or what the refusal must say.
        writer: `zip`, `legacy` or `safetensors`.
        asked: Whether mean and std are given.
    """

    name: str
    network: str
    layout: Layout = dict
    foreign: dict[str, Any] | None = None
    verdict: str = "equal"
    writer: str = "zip"
    asked: bool = True


@dataclass(frozen=True)
class Found:
    """What became of a row: the verdict, the largest difference, and the refusal."""

    verdict: str
    difference: float | None = None
    words: str = ""


def made(row: Row) -> tuple[dict[str, Tensor], Tensor, Tensor, Foreign]:
    """Return weights, images, the logits that the public code gives, and the description."""
    torch.manual_seed(sum(map(ord, row.name)))
    if row.network in public_networks.PUBLIC:
        words, function = public_networks.PUBLIC[row.network]
        arch, _, norm_layer = words.partition(" ")
        x = torch.rand(2, 3, 32, 32)
        weights = public_networks.Weights()
        logits = function(weights, _normalised(x))
        described = Foreign(arch, "cifar10", MEAN, STD, norm_layer=norm_layer or "batch")
        return dict(weights), x, logits, described
    make, image = foreign_networks.NETWORKS[row.network]
    net = make()
    for key, value in net.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(*((-0.3, 0.3) if "mean" in key else (0.5, 1.5)))
        elif value.numel() > 1 and key.endswith("weight") and value.ndim == 1:
            value.uniform_(0.5, 1.5)
    x = torch.rand(2, *image)
    with torch.no_grad():
        logits = getattr(net.eval(), "classify", net)(_normalised(x))
    dataset = "mnist" if image[0] == 1 else "cifar10"
    channels = image[0]
    described = Foreign(f"{CODE}:{row.network}", dataset, MEAN[:channels], STD[:channels])
    return dict(net.state_dict()), x, logits, described


def _normalised(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(each[: x.shape[1]]).view(1, -1, 1, 1) for each in (MEAN, STD))
    return (x - mean) / std


def tried(row: Row, folder: Path) -> Found:
    """Write a file and load it."""
    weights, x, logits, described = made(row)
    foreign = replace(described, **(row.foreign or {}))
    if not row.asked:
        foreign = replace(foreign, mean=None, std=None)
    content = row.layout(weights)
    path = folder / ("theirs.safetensors" if row.writer == "safetensors" else "theirs.pth")
    if row.writer == "safetensors":
        save_file({k: v.clone() for k, v in content.items()}, path, {"format": "pt"})
    else:
        torch.save(content, path, _use_new_zipfile_serialization=row.writer != "legacy")
    try:
        model = load(path, device="cpu", foreign=foreign)
    except JeatError as problem:
        return Found("refused", None, f"{problem.message} / {problem.hint}".replace("\n", " "))
    difference = float((model.classifier(x) - logits).abs().max())
    exact = all(v.dtype not in (torch.half, torch.bfloat16) for v in _tensors(content))
    size = max(1.0, float(logits.abs().max()))
    within = (1e-4 if exact else 0.05) * size
    return Found("equal" if difference <= within else "wrong", difference)


def _tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors(value)


def main(words: list[str]) -> int:
    """Print a line for each row, and how many there are of each verdict."""
    from .checkpoint_more_rows import MORE
    from .checkpoint_rows import ROWS

    counts: Counter[str] = Counter()
    unexpected = 0
    with tempfile.TemporaryDirectory() as folder:
        for row in (*ROWS, *MORE):
            if words and not any(word in row.name for word in words):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = tried(row, Path(folder))
            said = found.words if found.difference is None else f"{found.difference:.1e}"
            as_expected = found.verdict == row.verdict or row.verdict in found.words
            unexpected += not as_expected
            counts[found.verdict] += 1
            mark = " " if as_expected else "!"
            print(f"{mark} {row.name:<34} {found.verdict:<8} {said[:400]}", flush=True)
    print(f"{sum(counts.values())} files: {dict(counts)}; {unexpected} not as expected")
    return int(unexpected > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
